// The functions that engine/kernels/library.py calls. Sizes of the mirrored structs are told, so that a mismatch is found on loading.
#include "decoder.h"
#include "top.h"

using namespace edgemoe;

namespace {

struct Engine {
  Pool pool;
  Means context;
  ExpertWork work;
  Prepared ready;
  explicit Engine(const Products* products) : context{products, &pool} {}
};

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int64_t edgemoe_size(int32_t which) {
  const int64_t sizes[] = {sizeof(Matrix), sizeof(ExpertLayout), sizeof(AttentionSpec), sizeof(LayerSpec), sizeof(ModelSpec)};
  return which >= 0 && which < int32_t(sizeof(sizes) / sizeof(*sizes)) ? sizes[which] : -1;
}

// Null where this processor has no products of that name; an empty name takes the best.
Engine* edgemoe_engine_new(const char* products) {
  const Products* found = products_named(products);
  return found == nullptr ? nullptr : new Engine(found);
}

void edgemoe_engine_free(Engine* engine) { delete engine; }

const char* edgemoe_engine_name(const Engine* engine) { return engine->context.products->name; }

// At first there is one, the caller. 0, or why another could not be started (errno).
int32_t edgemoe_engine_threads(Engine* engine, int32_t threads) { return engine->pool.resize(threads); }

// y[tokens, rows] = x[tokens, columns] W^T + bias
void edgemoe_linear(Engine* engine, const Matrix* w, const float* x, float* y, int32_t tokens) {
  engine->ready.set(x, tokens, w->columns, w->columns);
  linear(engine->context, *w, engine->ready, y, w->rows);
}

// y[tokens, d] = expert(x[tokens, d])
void edgemoe_expert(Engine* engine, const uint8_t* record, const ExpertLayout* layout, const float* x, float* y, int32_t tokens) {
  const int d = layout->up.columns;
  engine->ready.set(x, tokens, d, d);
  run_expert(engine->context, engine->work, record, *layout, engine->ready, tokens, y, layout->down.rows);
}

void edgemoe_quantize8(Engine* engine, const float* x, int32_t columns, int8_t* codes, float* scales, float* sums) {
  engine->context.products->quantize8(x, columns, codes, scales, sums);
}

void edgemoe_quantize16(Engine* engine, const float* x, int32_t columns, int16_t* codes, float* scales, float* sums) {
  engine->context.products->quantize16(x, columns, codes, scales, sums);
}

// The `count` largest of logits[size], largest first (the lower index first among equals), and the logarithm of the sum of all exponentials.
float edgemoe_top(Engine* engine, const float* logits, int32_t size, int32_t count, int32_t* tokens, float* scores) {
  return top(*engine->context.products, logits, size, count, tokens, scores);
}

Decoder* edgemoe_decoder_new(Engine* engine, const ModelSpec* spec, Stream* stream) { return new Decoder(*spec, engine->context, stream); }

void edgemoe_decoder_free(Decoder* decoder) { delete decoder; }

void edgemoe_decoder_gate(Decoder* decoder, Gate* gate) { decoder->set_gate(gate); }

void edgemoe_decoder_cache(Decoder* decoder, float* keys, float* values, int64_t places) { decoder->set_cache(keys, values, places); }

void edgemoe_decoder_begin(Decoder* decoder, int32_t token, int32_t position) { decoder->begin(token, position); }

int32_t edgemoe_decoder_run(Decoder* decoder, int64_t patience) { return decoder->run(patience); }

float* edgemoe_decoder_logits(Decoder* decoder) { return decoder->logits(); }

}  // extern "C"
#pragma GCC visibility pop
