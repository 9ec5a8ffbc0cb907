// Which products this processor runs.
#include <cstring>

#include "products.h"

namespace edgemoe {
namespace {

bool runs_avx2() {
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

}  // namespace

const Products* products_named(const char* name) {
  const Products* best = runs_avx2() && avx2_products() != nullptr ? avx2_products() : &portable_products();
  if (name == nullptr || *name == '\0' || std::strcmp(name, best->name) == 0) return best;
  return std::strcmp(name, portable_products().name) == 0 ? &portable_products() : nullptr;
}

}  // namespace edgemoe
