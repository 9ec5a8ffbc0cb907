// Where records are read from: a disk behind threads (loader.h), or a model of one under a virtual clock (simulate/).
#pragma once
#include <cstdint>

namespace edgemoe {

// One record on its way into `memory`. Times are of now_ns() (or of the virtual clock). Kept by the caller until it was handed back.
struct Read {
  int32_t expert;    // number
  int32_t bits;
  int32_t file;      // index into the storage's files
  bool ahead;        // nobody waits for it (yet)
  int64_t offset, nbytes;
  uint64_t checksum;
  uint8_t* memory;   // page-aligned; null in a simulation
  int64_t started, finished;  // filled in
  int32_t lane;               // filled in: 1 and up
  int32_t error;              // filled in: 0, or why it failed
};

enum ReadError : int32_t { READ_OK = 0, READ_SHORT = -1, READ_DAMAGED = -2 };  // positive: errno

class Storage {
 public:
  virtual ~Storage() = default;
  // Demand reads are served first, in order; those ahead only when no demand read waits, in order.
  virtual void submit(Read* read) = 0;
  // Takes a read back that has not started: true, and it is forgotten. False: it has started (or is done) and will be handed back.
  virtual bool cancel(Read* read) = 0;
  // A read ahead is needed now: where it has not started, it moves behind the demand reads. True where it had started already.
  virtual bool join(Read* read) = 0;
  // The next completed read; waits for it. Only while there is one under way.
  virtual Read* wait() = 0;
  // A completed read, or null.
  virtual Read* poll() = 0;
  // ns in which at least one read was in flight, so far.
  virtual int64_t busy() = 0;
};

}  // namespace edgemoe
