#include "residency/edgemoe.h"
#include "residency/edgemoe_printed.h"
#include "residency/fifo.h"
#include "residency/forecast.h"
#include "residency/lfu.h"
#include "residency/lru.h"

namespace edgemoe {

std::unique_ptr<Policy> policy_named(const std::string& name, Shape shape) {
  if (name == "forecast") return std::make_unique<Forecast>(shape);
  if (name == "edgemoe") return std::make_unique<EdgeMoE>(shape);
  if (name == "edgemoe-printed") return std::make_unique<EdgeMoEPrinted>(shape);
  if (name == "lru") return std::make_unique<Lru>(shape);
  if (name == "lfu") return std::make_unique<Lfu>(shape);
  if (name == "fifo") return std::make_unique<Fifo>(shape);
  return nullptr;
}

}  // namespace edgemoe
