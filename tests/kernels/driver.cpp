// Runs everything the library offers on memory of exactly the size it needs, for sanitizers to watch: test_sanitizers.py links it with
// a library built for them. Says what differs that should not, and ends with a status other than 0.
//
// T tokens, R rows, C columns, d hidden, ff expert width.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "kernels/native/decoder.h"
#include "kernels/native/half.h"
#include "preload/loader.h"

using namespace edgemoe;

struct BufferView {
  int64_t budget, held, peak, most_over, evictions, staging, committed;
  const int64_t* by_width;
  const uint64_t* records;
  const uint8_t* width_places;
};

struct Engine;
struct Management;

extern "C" {
Engine* edgemoe_engine_new(const char* products);
void edgemoe_engine_free(Engine*);
const char* edgemoe_engine_name(const Engine*);
int32_t edgemoe_engine_threads(Engine*, int32_t threads);
void edgemoe_linear(Engine*, const Matrix*, const float* x, float* y, int32_t tokens);
float edgemoe_top(Engine*, const float* logits, int32_t size, int32_t count, int32_t* tokens, float* scores);
void edgemoe_expert(Engine*, const uint8_t* record, const ExpertLayout*, const float* x, float* y, int32_t tokens);
Decoder* edgemoe_decoder_new(Engine*, const ModelSpec*, Stream*);
void edgemoe_decoder_free(Decoder*);
void edgemoe_decoder_gate(Decoder*, Gate*);
void edgemoe_decoder_cache(Decoder*, float* keys, float* values, int64_t places);
void edgemoe_decoder_begin(Decoder*, int32_t token, int32_t position);
int32_t edgemoe_decoder_run(Decoder*, int64_t patience);
float* edgemoe_decoder_logits(Decoder*);
uint64_t edgemoe_checksum(const uint8_t* data, int64_t bytes);
Loader* edgemoe_loader_new(const char* const* files, int32_t count);
void edgemoe_loader_free(Loader*);
int32_t edgemoe_loader_configure(Loader*, int32_t threads, double bandwidth, int64_t latency, int32_t verify);
void edgemoe_loader_submit(Loader*, Read*);
int32_t edgemoe_loader_cancel(Loader*, Read*);
int32_t edgemoe_loader_join(Loader*, Read*);
Read* edgemoe_loader_wait(Loader*);
Read* edgemoe_loader_poll(Loader*);
int64_t edgemoe_loader_busy(Loader*);
Records* edgemoe_records_new(int32_t experts, int32_t on, int64_t origin);
void edgemoe_records_free(Records*);
void edgemoe_records_forget(Records*);
Management* edgemoe_stream_new(int32_t layers, int32_t experts, int32_t top_k, int32_t widths, const int32_t* bits, const int64_t* bytes,
                               const uint64_t* const* checksums, const uint8_t* wanted, int64_t budget, const char* policy, void* storage,
                               Records* records);
void edgemoe_stream_free(Management*);
Stream* edgemoe_stream_of(Management*);
Gate* edgemoe_stream_gate(Management*);
void edgemoe_stream_predictor(Management*, int32_t gate, Predictor* learned);
void edgemoe_stream_ahead(Management*, int32_t depth, int32_t width, int32_t balanced);
void edgemoe_stream_budget(Management*, int64_t budget);
void edgemoe_stream_quiesce(Management*);
void edgemoe_stream_begin_request(Management*);
void edgemoe_stream_begin_pass(Management*, int32_t pass, int32_t phase);
void edgemoe_stream_view(const Management*, BufferView*);
}

namespace {

std::mt19937 dice(1);

int draw(int least, int most) { return std::uniform_int_distribution<int>(least, most)(dice); }
float normal() { return std::normal_distribution<float>()(dice); }

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "driver: %s\n", what.c_str());
  std::exit(1);
}

// Memory of exactly n values, each malloc'ed for itself, so that a byte read past an end is seen.
template <class V>
class Exactly {
 public:
  explicit Exactly(size_t n) : data_(static_cast<V*>(std::malloc(n * sizeof(V) + (n == 0)))), n_(n) {}
  Exactly(Exactly&& other) noexcept : data_(other.data_), n_(other.n_) { other.data_ = nullptr; }
  Exactly(const Exactly&) = delete;
  ~Exactly() { std::free(data_); }
  V* get() const { return data_; }
  V& operator[](size_t i) const { return data_[i]; }
  size_t size() const { return n_; }
  bool operator==(const Exactly& o) const { return n_ == o.n_ && std::memcmp(data_, o.data_, n_ * sizeof(V)) == 0; }

 private:
  V* data_;
  size_t n_;
};

Exactly<float> floats(size_t n, float scale = 1.0f) {
  Exactly<float> made(n);
  for (size_t i = 0; i < n; ++i) made[i] = scale * normal();
  return made;
}

int up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// A matrix and what it points to. `group` 0: one group a row.
struct Weights {
  Matrix m{};
  Exactly<uint8_t> codes;
  Exactly<uint16_t> scales;
  Exactly<float> bias;
  Exactly<uint8_t> counts;
  Exactly<uint16_t> places, values;

  // With `outliers` that many are kept apart, at columns that need not be there and in rows that may ask for more.
  Weights(int kind, int rows, int columns, int group, float scale = 0.1f, int outliers = 0)
      : codes(bytes(kind, rows, columns, group)),
        scales(kind < 16 ? size_t(rows) * (padded(columns, group) / width(columns, group)) : 0),
        bias(floats(rows)),
        counts(outliers > 0 ? rows : 0),
        places(outliers),
        values(outliers) {
    m = {codes.get(), nullptr, bias.get(), kind, F32, rows, columns, columns, 0, 1.0f, 0.0f, outliers, counts.get(), places.get(), values.get()};
    for (size_t i = 0; i < counts.size(); ++i) counts[i] = uint8_t(draw(0, 5) == 0 ? draw(0, 255) : draw(0, 3));
    for (int i = 0; i < outliers; ++i) {
      places[i] = uint16_t(draw(0, 9) == 0 ? draw(0, 65535) : draw(0, columns - 1));
      values[i] = uint16_t(0x3000 + draw(0, 0xfff) + (draw(0, 1) << 15));
    }
    if (kind < 16) {
      m.scales = scales.get();
      m.padded = padded(columns, group);
      m.group = width(columns, group);
      m.unit = scale / float(1 << kind);
      m.center = float((1 << kind) - 1) / 2;
    }
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = uint8_t(draw(0, 255));
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = uint16_t(0x3000 + draw(0, 0xfff));  // 0.125 to 2
    for (size_t i = 0; kind >= 16 && i < size_t(rows) * columns; ++i) {
      const float value = scale * normal();
      if (kind == F32) std::memcpy(codes.get() + 4 * i, &value, 4);
      const uint16_t half = kind == BF16 ? uint16_t(bits_of_float(value) >> 16) : uint16_t(0x2c00 + draw(0, 0x7ff) + (draw(0, 1) << 15));
      if (kind != F32) std::memcpy(codes.get() + 2 * i, &half, 2);
    }
  }

  static int width(int columns, int group) { return group == 0 ? up(columns, 8) : std::min(group, up(columns, 8)); }
  static int padded(int columns, int group) { return up(columns, width(columns, group)); }
  static size_t bytes(int kind, int rows, int columns, int group) {
    return kind < 16 ? size_t(rows) * padded(columns, group) * kind / 8 : size_t(rows) * columns * (kind == F32 ? 4 : 2);
  }
};

constexpr int kKinds[] = {Q2, Q3, Q4, Q8, BF16, F16, F32};

std::vector<Engine*> engines(int threads) {
  std::vector<Engine*> made;
  for (const char* name : {"portable C++", "AVX2"})
    if (Engine* engine = edgemoe_engine_new(name)) {
      edgemoe_engine_threads(engine, threads);
      made.push_back(engine);
    }
  return made;
}

void expect_near(const Exactly<float>& a, const Exactly<float>& b, float share, const std::string& what) {
  double apart = 0, size = 1e-30;
  for (size_t i = 0; i < a.size(); ++i) apart += double(a[i] - b[i]) * (a[i] - b[i]), size += double(a[i]) * a[i];
  if (!(apart <= share * share * size)) fail(what + ": instruction sets differ by " + std::to_string(std::sqrt(apart / size)));
}

void products() {
  std::vector<Engine*> all = engines(1);
  for (int kind : kKinds)
    for (int group : {0, 32, 64, 128})
      for (int columns : {1, 8, 40, 64, 100, 128, 192, 256, 320, 700}) {
        if (kind >= 16 && group != 0) continue;
        const int rows = draw(1, 23), tokens = draw(1, 9);
        const Weights w(kind, rows, columns, group, 0.1f, kind < Q8 ? draw(0, 60) : 0);
        const Exactly<float> x = floats(size_t(tokens) * columns);
        std::vector<Exactly<float>> y;
        for (Engine* engine : all) {
          y.emplace_back(size_t(tokens) * rows);
          edgemoe_linear(engine, &w.m, x.get(), y.back().get(), tokens);
        }
        for (const Exactly<float>& other : y) expect_near(y[0], other, 1e-5f, "products of kind " + std::to_string(kind));
      }
  for (Engine* engine : all) edgemoe_engine_free(engine);
}

// The likeliest tokens, among logits that need not be numbers.
void tops() {
  for (Engine* engine : engines(1)) {
    for (int size : {1, 7, 50, 1000})
      for (int turn = 0; turn < 20; ++turn) {
        const int count = draw(1, size);
        Exactly<float> logits = floats(size), scores(count);
        Exactly<int32_t> tokens(count);
        for (int i = 0; turn % 2 == 1 && i < size; ++i)
          if (draw(0, 2) == 0) logits[i] = NAN;
        const float total = edgemoe_top(engine, logits.get(), size, count, tokens.get(), scores.get());
        for (int i = 0; i < count; ++i)
          if (tokens[i] < 0 || tokens[i] >= size || (i > 0 && scores[i] > scores[i - 1])) fail("tokens out of order");
        if (turn % 2 == 0 && !(total >= scores[0])) fail("a sum of exponentials less than its largest");
      }
    edgemoe_engine_free(engine);
  }
}

// Threads come and go, and hand out rows; every bit is as with one.
void threads() {
  for (Engine* engine : engines(1)) {
    const Weights w(Q4, 500, 512, 64, 0.1f, 1000);
    const Exactly<float> x = floats(2 * 512);
    Exactly<float> wanted(2 * 500), y(2 * 500);
    edgemoe_linear(engine, &w.m, x.get(), wanted.get(), 2);
    for (int i = 0; i < 80; ++i) {
      if (i % 8 == 0) edgemoe_engine_threads(engine, 1 + i / 8 % 4);
      edgemoe_linear(engine, &w.m, x.get(), y.get(), 2);
      if (!(y == wanted)) fail("threads change a product");
    }
    edgemoe_engine_free(engine);
  }
}

// A record as engine/store lays it out: unit, up, down.
struct Record {
  ExpertLayout layout{};
  Exactly<uint8_t> bytes;

  Record(int kind, int d, int ff, bool gated, bool interleaved, int activation)
      : Record(Weights(kind, gated ? 2 * ff : ff, d, 64), Weights(kind, d, ff, 64)) {
    layout.gated = gated;
    layout.interleaved = interleaved;
    layout.activation = activation;
    layout.bits = kind < 16 ? kind : 16;
  }

 private:
  Record(const Weights& up, const Weights& down) : bytes(size(up, down)) {
    size_t end = 8;
    const float units[2] = {up.m.unit, down.m.unit};
    std::memcpy(bytes.get(), units, 8);
    layout.up = place(up, 0, end);
    layout.down = place(down, 4, end);
  }

  static size_t aligned(size_t at) { return (at + 63) / 64 * 64; }
  static size_t size(const Weights& up, const Weights& down) {
    size_t end = 8;
    for (const Weights* w : {&up, &down}) {
      end = aligned(end) + w->codes.size();
      if (w->scales.size() != 0) end = aligned(end) + w->scales.size() * 2;
    }
    return end;
  }

  Place place(const Weights& w, int64_t unit, size_t& end) {
    Place p{int64_t(aligned(end)), -1, unit, -1, w.m.rows, w.m.columns, w.m.padded, w.m.group, w.m.center, w.m.kind, F32, 0, -1, -1, -1};
    std::memcpy(bytes.get() + p.codes, w.codes.get(), w.codes.size());
    end = size_t(p.codes) + w.codes.size();
    if (w.scales.size() != 0) {
      p.scales = int64_t(aligned(end));
      std::memcpy(bytes.get() + p.scales, w.scales.get(), w.scales.size() * 2);
      end = size_t(p.scales) + w.scales.size() * 2;
    }
    return p;
  }
};

void experts() {
  std::vector<Engine*> all = engines(2);
  for (int kind : kKinds)
    for (int activation : {SILU, GELU, GELU_TANH, RELU, RELU2})
      for (int form : {0, 1, 2}) {
        const int d = 8 * draw(1, 40), ff = 8 * draw(1, 20), tokens = draw(1, 5);
        const Record record(kind, d, ff, form > 0, form == 2, activation);
        const Exactly<float> x = floats(size_t(tokens) * d);
        std::vector<Exactly<float>> y;
        for (Engine* engine : all) {
          y.emplace_back(size_t(tokens) * d);
          edgemoe_expert(engine, record.bytes.get(), &record.layout, x.get(), y.back().get(), tokens);
        }
        for (const Exactly<float>& other : y) expect_near(y[0], other, 0.01f, "experts of kind " + std::to_string(kind));
      }
  for (Engine* engine : all) edgemoe_engine_free(engine);
}

// --- reads --------------------------------------------------------------------------------------------------------------------------

constexpr int64_t kBlock = 4096, kRecord = 2 * kBlock;
constexpr int kRecords = 32;

struct Wanted {
  Read read{};
  uint8_t* memory = static_cast<uint8_t*>(std::aligned_alloc(kBlock, kRecord));
  bool under_way = false;

  ~Wanted() { std::free(memory); }
};

// What is asked of a loader in any order comes back once, with what the file holds, or with what was wrong with it.
void play(Loader* loader, const std::vector<uint8_t>& all, int turns) {
  std::vector<Wanted> wanted(kRecords);
  int under_way = 0;
  const auto landed = [&](Read* read) {
    Wanted& w = wanted[size_t(read->expert)];
    if (!w.under_way || read != &w.read || read->finished < read->started) fail("a read that nobody asked for");
    const int32_t due = read->expert == 0 ? READ_SHORT : read->expert == 1 ? READ_DAMAGED : READ_OK;
    if (read->error != due) fail("a read ended with " + std::to_string(read->error));
    if (due == READ_OK && std::memcmp(w.memory, all.data() + read->offset, kRecord) != 0) fail("a read of something else");
    w.under_way = false;
    --under_way;
  };
  for (int turn = 0; turn < turns; ++turn) {
    const int e = draw(0, kRecords - 1), what = draw(0, 9);
    Wanted& w = wanted[size_t(e)];
    if (!w.under_way && what < 6) {
      w.read = {e, 4, 0, what < 3, e == 0 ? kRecords * kRecord - kBlock : e * kRecord, kRecord,
                edgemoe_checksum(all.data() + e * kRecord, kRecord) + (e == 1), w.memory, 0, 0, 0, 0};
      w.under_way = true;
      ++under_way;
      edgemoe_loader_submit(loader, &w.read);
    } else if (w.under_way && what < 4) {
      if (!edgemoe_loader_cancel(loader, &w.read)) continue;
      w.under_way = false;
      --under_way;
    } else if (w.under_way && what < 7) {
      edgemoe_loader_join(loader, &w.read);
    } else if (what == 7 && edgemoe_loader_busy(loader) < 0) {
      fail("busy for less than no time");
    } else if (what == 8) {
      if (Read* read = edgemoe_loader_poll(loader)) landed(read);
    } else if (under_way > 0) {
      landed(edgemoe_loader_wait(loader));
    }
  }
  while (under_way > 0) landed(edgemoe_loader_wait(loader));
  if (edgemoe_loader_poll(loader) != nullptr) fail("a read too many");
}

void loaders() {
  std::vector<uint8_t> all(size_t(kRecords * kRecord));
  for (uint8_t& byte : all) byte = uint8_t(draw(0, 255));
  const char* const name = "reads";
  std::FILE* file = std::fopen(name, "wb");
  if (file == nullptr || std::fwrite(all.data(), 1, all.size(), file) != all.size()) fail("no room for records");
  std::fclose(file);
  Loader* loader = edgemoe_loader_new(&name, 1);
  for (int threads : {1, 2, 4})
    for (double bandwidth : {0.0, 1e9}) {
      edgemoe_loader_configure(loader, threads, bandwidth, bandwidth > 0 ? 30'000 : 0, 1);
      play(loader, all, 2000);
    }
  edgemoe_loader_free(loader);
  std::remove(name);
}

// --- a model: a dense layer, one with shared experts and a window, one with norms, groups and other rotary ---------------------------

constexpr int kHidden = 72, kWidth = 40, kHeads = 4, kKeyHeads = 2, kDim = 16, kVocabulary = 50, kExperts = 8, kTopK = 3;
constexpr int kTokens = 12, kPlaces = 10 + kTokens;
constexpr int kWidths[] = {Q2, Q3, Q4, Q8, BF16};

struct Model {
  std::vector<Weights> weights;
  std::vector<Exactly<float>> vectors;
  std::vector<Record> records;
  std::vector<ExpertLayout> layouts;
  LayerSpec layers[3] = {};
  ModelSpec spec{};
  Exactly<uint8_t> wanted{2 * kExperts};
  std::vector<int64_t> bytes;                    // of a record, by width
  std::vector<std::vector<uint64_t>> checksums;  // by width and expert
  std::vector<std::string> files;

  Model() {
    weights.reserve(64);
    for (int i = 0; i < 3; ++i) layers[i] = layer(i);
    for (int kind : kWidths) layouts.push_back(Record(kind, kHidden, kWidth, true, false, SILU).layout);
    for (size_t e = 0; e < wanted.size(); ++e) {
      wanted[e] = uint8_t(e % layouts.size());
      records.emplace_back(kWidths[wanted[e]], kHidden, kWidth, true, false, SILU);
    }
    for (size_t width = 0; width < layouts.size(); ++width) write(width);
    spec = {layers, 3, kHidden, kVocabulary, kExperts, SILU, 1e-6f, 1.5f, 0.7f, 0.5f, matrix(BF16, kVocabulary, kHidden),
            matrix(Q8, kVocabulary, kHidden), vector(kHidden), layouts.data(), nullptr, nullptr};
    spec.embedding.bias = nullptr;
  }

  ~Model() {
    for (const std::string& file : files) std::remove(file.c_str());
  }

  // The file of one width: the records of those experts that have it, at the places of their numbers.
  void write(size_t width) {
    size_t longest = 0;
    for (size_t e = 0; e < wanted.size(); ++e)
      if (wanted[e] == width) longest = std::max(longest, records[e].bytes.size());
    bytes.push_back(int64_t((longest + 4095) / 4096 * 4096));
    std::vector<uint8_t> all(size_t(bytes.back()) * wanted.size());
    checksums.emplace_back();
    for (size_t e = 0; e < wanted.size(); ++e) {
      uint8_t* at = all.data() + e * size_t(bytes.back());
      if (wanted[e] == width) std::memcpy(at, records[e].bytes.get(), records[e].bytes.size());
      checksums.back().push_back(edgemoe_checksum(at, bytes.back()));
    }
    files.push_back("records-" + std::to_string(width));
    std::FILE* file = std::fopen(files.back().c_str(), "wb");
    if (file == nullptr || std::fwrite(all.data(), 1, all.size(), file) != all.size()) fail("no room for records");
    std::fclose(file);
  }

  int64_t all_bytes() const {
    int64_t total = 0;
    for (size_t e = 0; e < wanted.size(); ++e) total += bytes[wanted[e]];
    return total;
  }

  const Matrix& matrix(int kind, int rows, int columns) { return weights.emplace_back(kind, rows, columns, 64, 0.3f).m; }
  const float* vector(int n) { return vectors.emplace_back(floats(size_t(n))).get(); }

  LayerSpec layer(int place) {
    const int wide = kHeads * kDim, narrow = kKeyHeads * kDim;
    LayerSpec l{vector(kHidden), vector(kHidden), {}, place - 1, {}, {}, {}, {}, {}, {}};
    l.attention = {matrix(BF16, wide, kHidden), matrix(Q4, narrow, kHidden), matrix(F16, narrow, kHidden), matrix(Q8, kHidden, wide),
                   nullptr, nullptr, vector(kDim / 2), 0, 0, 0, kHeads, kKeyHeads, kDim, kDim, place == 2, place == 1 ? 5 : 0,
                   0.25f, 0.0f, 1.0f};
    if (place == 2) {
      AttentionSpec& a = l.attention;
      a.q_norm = vector(kDim), a.q_norm_size = kDim;
      a.k_norm = vector(narrow), a.k_norm_size = narrow;
      a.norm_after_rotary = 1, a.clip = 2.0f, a.rotated = 8;
    }
    if (place > 0) {
      l.router = matrix(F32, kExperts, kHidden);
      l.router.bias = nullptr;
      l.routing = {kExperts, kTopK, SOFTMAX, 1, 1, 1, 0.0f, 0.0f, 1.0f, nullptr};
      if (place == 2) l.routing = {kExperts, kTopK, SIGMOID, 1, 4, 2, 1e-20f, 0.0f, 1.5f, vector(kExperts)};
    }
    if (place < 2) {
      l.gate = matrix(Q3, kWidth, kHidden), l.up = matrix(BF16, kWidth, kHidden), l.down = matrix(Q2, kHidden, kWidth);
      if (place == 1) l.mlp_gate = matrix(F32, 1, kHidden);
    }
    return l;
  }
};

// Logits of kTokens tokens, with so many percent of the experts in memory, reading ahead for `depth` layers.
Exactly<float> decode(Engine* engine, Model& model, int percent, int depth) {
  const size_t size = 3 * kKeyHeads * kPlaces * kDim;
  Exactly<float> keys(size), values(size), told(kTokens * kVocabulary);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = std::sin(float(i)), values[i] = std::cos(float(i));
  std::vector<const char*> files;
  std::vector<const uint64_t*> checksums;
  for (const std::string& file : model.files) files.push_back(file.c_str());
  for (const auto& sums : model.checksums) checksums.push_back(sums.data());
  const int32_t bits[] = {2, 3, 4, 8, 16};
  Loader* loader = edgemoe_loader_new(files.data(), int32_t(files.size()));
  edgemoe_loader_configure(loader, 3, depth == 1 ? 1e8 : 0, depth == 1 ? 20'000 : 0, 1);
  Records* records = edgemoe_records_new(kExperts, 1, 0);
  Management* management = edgemoe_stream_new(2, kExperts, kTopK, 5, bits, model.bytes.data(), checksums.data(), model.wanted.get(),
                                              model.all_bytes() * percent / 100, "edgemoe", loader, records);
  if (depth > 0) edgemoe_stream_predictor(management, 1, nullptr);
  edgemoe_stream_ahead(management, depth, 2, depth == 2);
  BufferView view;
  edgemoe_stream_view(management, &view);
  model.spec.records = view.records;
  model.spec.layout_of = view.width_places;
  Decoder* decoder = edgemoe_decoder_new(engine, &model.spec, edgemoe_stream_of(management));
  edgemoe_decoder_gate(decoder, edgemoe_stream_gate(management));
  edgemoe_decoder_cache(decoder, keys.get(), values.get(), kPlaces);
  edgemoe_stream_begin_request(management);
  for (int token = 0; token < kTokens; ++token) {
    edgemoe_stream_begin_pass(management, token, 1);
    edgemoe_decoder_begin(decoder, token * 7 % kVocabulary, 10 + token);
    int32_t progress;
    while ((progress = edgemoe_decoder_run(decoder, token % 3 == 0 ? 0 : 1'000'000'000)) == 0) continue;
    if (progress < 0) fail("a record could not be read");
    edgemoe_records_forget(records);
    std::memcpy(told.get() + token * kVocabulary, edgemoe_decoder_logits(decoder), kVocabulary * sizeof(float));
    if (token == kTokens / 2) {
      edgemoe_stream_quiesce(management);
      edgemoe_stream_budget(management, model.all_bytes() * (percent + 100) / 200);
    }
  }
  edgemoe_stream_view(management, &view);
  if (view.most_over > 0) fail("more was held than the budget");
  edgemoe_decoder_free(decoder);
  edgemoe_stream_quiesce(management);
  edgemoe_stream_free(management);
  edgemoe_records_free(records);
  edgemoe_loader_free(loader);
  return told;
}

void decoders() {
  Model model;
  std::vector<Exactly<float>> of_sets;
  for (Engine* engine : engines(1)) {
    of_sets.push_back(decode(engine, model, 100, 0));
    for (int threads : {1, 2, 3}) {
      edgemoe_engine_threads(engine, threads);
      for (int percent : {100, 70, 50})
        for (int depth : {0, 1, 2})
          if (!(decode(engine, model, percent, depth) == of_sets.back())) fail("logits depend on what was resident, or on threads");
    }
    edgemoe_engine_free(engine);
  }
  for (const Exactly<float>& other : of_sets) expect_near(of_sets[0], other, 0.05f, "decoders");
}

}  // namespace

int main(int count, char** names) {
  for (int i = 1; i < count; ++i) {
    const std::string name = names[i];
    if (name == "products") products();
    if (name == "tops") tops();
    if (name == "threads") threads();
    if (name == "experts") experts();
    if (name == "loaders") loaders();
    if (name == "decoders") decoders();
  }
  std::puts("all well");
}
