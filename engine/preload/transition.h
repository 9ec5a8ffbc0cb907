#pragma once
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "preload/predictor.h"
#include "preload/vectors.h"

namespace edgemoe {

// The routing of many requests, one after the other: `experts` [T, S, k], -1 for none, `lengths` tokens of each.
struct Trace {
  const int16_t* experts;
  const int32_t* lengths;
  int requests, top_k;
};

// Learned from routing alone: for each layer a network of one hidden layer, whose input says which experts the earlier layers of this token and
// all layers of the token before chose. Such an input is a row a fact, and its first product a sum of those rows.
//
// A layer's own uses, decayed over several half-lives, go to the output directly. Every expert's output is the logarithm of the odds that the
// router chooses it, so that they are probabilities, and sum to about k. Layers nearer than `ahead` are unknown when a guess is made further
// ahead: training hides them at random, and a row of its own says how many.
class Transition : public Predictor {
 public:
  static constexpr int kDecays = 4, kFar = 5;  // distances that are told apart: 1 to 4 layers, and nothing of this token known

  Transition(Shape shape, int top_k, uint32_t seed = 1);

  void begin_request() override;
  void routed(int layer, const int32_t* experts, int count, bool prefill) override;
  bool predict(int layer, int ahead, float* odds) override;

  // Goes on learning from what it hears; it must not otherwise be trained at the same time.
  void set_learning(bool on) { learning_ = on; }

  // Learns from a trace, its requests in random order each time; false where `report` (share done) said to stop.
  bool train(const Trace& trace, int epochs, int threads, const std::function<bool(double)>& report);

  // Its weights, layer by layer, to be saved and brought back.
  int arrays() const { return int(layers_.size()) * kArrays; }
  std::vector<float>& array(int index);
  std::string name(int index) const;
  int hidden() const { return hidden_; }

 private:
  static constexpr int kArrays = 5;

  // The network of one layer. Rows: [facts of this token, facts of the one before, distances] by hidden.
  struct Layer {
    std::vector<float> rows, bias, outputs, base, decays;
    std::vector<float> rows_seen, bias_seen, outputs_seen, base_seen, decays_seen;  // sums of squared gradients; empty until it learns
  };
  // What one prediction goes through.
  struct Work {
    std::vector<int> facts;
    std::vector<float> hidden, logits, back;
  };

  int first_before(int layer) const { return layer > before_ ? layer - before_ : 0; }
  int first_after(int layer) const { return layer > 2 ? layer - 2 : 0; }
  int end_after(int layer) const { return layer + after_ < shape_.layers ? layer + after_ : shape_.layers; }
  void gather(Work& work, int layer, int distance, const int16_t* token, const uint8_t* known, const int16_t* last, const uint8_t* last_known) const;
  void run(Work& work, int layer, const float* uses) const;
  void learn(Work& work, int layer, const float* uses, const int16_t* chosen);
  void learn_requests(int layer, const Trace& trace, const std::vector<int64_t>& starts, std::mt19937& dice, Work& work);
  int drawn_distance(float which, float how_far) const;
  void age(float* uses, const int16_t* chosen) const;

  Shape shape_;
  int top_k_, hidden_, before_, after_;
  const Vectors& vectors_;
  std::vector<Layer> layers_;
  bool learning_ = false;
  float rate_ = 0.03f, output_rate_ = 0.02f;

  // what was heard: this token and the one before, [S, k], and which layers of each are known; decayed uses [S, decays, E]
  std::vector<int16_t> token_, last_;
  std::vector<uint8_t> known_, last_known_, nothing_;
  std::vector<float> uses_;
  Work work_;
};

}  // namespace edgemoe
