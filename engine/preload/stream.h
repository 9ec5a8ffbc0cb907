// The experts of one MoE layer after another: make resident what its router chose, read ahead what the next will choose.
//
// S MoE layers, E experts a layer, N = S * E, k experts a token; an expert's number is layer * E + expert.
#pragma once
#include <deque>
#include <vector>

#include "preload/balance.h"
#include "preload/predictor.h"
#include "preload/storage.h"
#include "residency/buffer.h"

namespace edgemoe {

// One expert's part in a pass: its number, its first place in the router's order, and of how many tokens; `weight` is the gate's, their mean.
struct Use {
  int32_t expert, rank, tokens;
  float weight;
};

// Where records lie: all of one width, one after the other, in the storage's file of the width's place.
struct Source {
  std::vector<Width> widths;
  std::vector<std::vector<uint64_t>> checksums;  // by width: [N], or empty in a simulation
};

// How far reading ahead goes. Depth 0: not at all.
struct Ahead {
  int depth = 0;          // layers
  int width = 0;          // records that may be read ahead and not used yet, at most
  bool balanced = false;  // fewer where fewer pay, none where none do
};

class Stream {
 public:
  // `wanted` [N] is the place of the width that each expert is to be loaded at next, kept by the caller.
  Stream(Shape shape, int top_k, Source source, const uint8_t* wanted, Buffer* buffer, Policy* policy, Storage* storage, Records* records);

  // --- settings; nothing may be under way ---
  void set_policy(Policy* policy);
  void set_predictor(Predictor* predictor);  // null: none
  void set_ahead(Ahead ahead);
  void resize(int64_t budget);

  // --- a pass ---
  void begin_request();
  void begin_pass(int32_t pass, Phase phase);

  // The router of `layer` has spoken: every expert it chose is accounted for, and what is missing is asked for.
  void routed(int layer, const Use* uses, int count);

  // Has the likely experts of the next layers read, now that this layer's demands are under way.
  void look_ahead();

  // Which uses, by their places in what `routed` was told, can be computed now; waits for at least one. Those given before are computed by then.
  // 0: all are. -1: a record could not be read (`failed`), and the layer was given up.
  int take(int32_t* places);

  // Whether the next `take` gives all there are.
  bool all_ready() const { return int(ready_.size()) == count_; }

  // --- outside of passes ---
  // Has an absent expert read to begin with; false where there is no room. `landed` waits for one, and gives its number, or -1 where it failed.
  bool fill(int32_t expert);
  int32_t landed();

  // Takes back what has not started, and waits for the rest.
  void quiesce();

  // How an expert that was chosen last by its layer was found.
  Outcome outcome(int32_t expert) const { return Outcome(outcome_[expert]); }
  bool seen(int32_t expert) const { return seen_[expert] != 0; }
  const Read& failed() const { return failed_; }
  int in_flight() const { return in_flight_; }
  Predictor* predictor() const { return predictor_; }
  Ahead ahead() const { return ahead_; }
  Records& records() const { return *told_; }
  int experts() const { return shape_.experts; }
  int layers() const { return shape_.layers; }
  bool predicting() const { return predictor_ != nullptr && ahead_.depth > 0 && (!ahead_.balanced || balance_.on()); }
  const Balance& balance() const { return balance_; }

  // Whether it would help to know what `layer` will choose: not all of it is in memory.
  bool wants(int layer) const;

 private:
  struct Guess {
    int32_t expert;
    float odds;
  };

  void recall(int layer);
  Outcome found(int32_t expert);
  void tell_guesses(int layer);
  void let_go();
  void admit_more();
  void predict(int layer, int distance);
  void send(int32_t expert, int width, bool ahead);
  bool land(Read* read);
  void absorb();
  void give_up();
  void apply_staging();
  void weigh_pass();
  void weigh_found(int32_t expert, Outcome outcome);

  Shape shape_;
  int top_k_;
  Source source_;
  const uint8_t* wanted_;
  Buffer* buffer_;
  Policy* policy_;
  Predictor* predictor_ = nullptr;
  Storage* storage_;
  Records* told_;
  Ahead ahead_;
  Balance balance_;
  int width_ = 0;  // records kept room for
  int64_t began_ = 0, busy_ = 0, wasted_ = 0, routed_ = 0, stalled_ = 0, waited_for_ = 0;
  std::vector<int64_t> asked_at_;  // [N]

  std::vector<Read> reads_;  // one an expert
  std::vector<uint8_t> seen_, under_way_, joined_;
  Read failed_{};
  int in_flight_ = 0;

  // the layer under way
  Moment at_;
  int count_ = 0, left_ = 0;
  std::vector<int32_t> order_;  // places: residents first, then the others, as the router named them
  std::vector<int32_t> number_, place_of_, given_, ready_;
  std::vector<uint8_t> computed_, admitted_, outcome_;
  size_t let_go_ = 0, next_ = 0;  // into order_: the first not yet let go, the first not yet admitted

  // what is thought likely
  std::vector<float> odds_;              // [N]
  std::vector<uint8_t> asked_, distance_of_;  // [N]; [S], 0: not predicted
  std::vector<uint8_t> asked_for_;       // [S]: whether reads ahead were made for the layer
  std::vector<Guess> guesses_;
  std::vector<int32_t> best_;
};

}  // namespace edgemoe
