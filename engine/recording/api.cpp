// The functions that engine/ledger.py calls.
#include "recording/records.h"

using namespace edgemoe;

#pragma GCC visibility push(default)
extern "C" {

struct RowsView {
  const void* rows[4];  // spans, accesses, residency, predictions
  int64_t bytes[4];
};

int64_t edgemoe_records_size(int32_t which) {
  const int64_t sizes[] = {sizeof(Span), sizeof(Access), sizeof(Change), sizeof(Prediction), sizeof(Totals), sizeof(RowsView)};
  return which >= 0 && which < int32_t(sizeof(sizes) / sizeof(*sizes)) ? sizes[which] : -1;
}

// `on` 0: totals only. The clock's time 0 is `origin`.
Records* edgemoe_records_new(int32_t experts, int32_t on, int64_t origin) {
  auto* records = new Records(experts);
  records->on = on != 0;
  records->origin = origin;
  return records;
}

void edgemoe_records_free(Records* records) { delete records; }
void edgemoe_records_origin(Records* records, int64_t origin) { records->origin = origin; }
void edgemoe_records_begin(Records* records, int32_t pass, int32_t phase) { records->begin(pass, Phase(phase)); }
const Totals* edgemoe_records_totals(const Records* records) { return &records->totals; }
const int64_t* edgemoe_records_reached(const Records* records) { return &records->reached; }
int64_t edgemoe_records_io_time(Records* records) { return records->io_time(); }

// Work of the token loop that began at `start` ends now.
void edgemoe_records_span(Records* records, int32_t kind, int64_t start, int32_t layer, int32_t expert, int32_t bits) {
  records->reached = start;
  records->mark(SpanKind(kind), layer, expert, bits);
}

// What was done since the last span ended was bookkeeping. Returns now.
int64_t edgemoe_records_account(Records* records) {
  records->mark(ACCOUNT, -1);
  return records->reached;
}

// The rows since they were last forgotten, until the next call of any kind.
void edgemoe_records_rows(const Records* r, RowsView* out) {
  *out = {{r->spans.data(), r->accesses.data(), r->changes.data(), r->predictions.data()},
          {int64_t(r->spans.size() * sizeof(Span)), int64_t(r->accesses.size() * sizeof(Access)), int64_t(r->changes.size() * sizeof(Change)),
           int64_t(r->predictions.size() * sizeof(Prediction))}};
}

void edgemoe_records_forget(Records* records) { records->forget_rows(); }

}  // extern "C"
#pragma GCC visibility pop
