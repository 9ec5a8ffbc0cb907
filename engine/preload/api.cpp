// The functions that engine/preload/loader.py calls.
#include "preload/checksum.h"
#include "preload/loader.h"

using namespace edgemoe;

#pragma GCC visibility push(default)
extern "C" {

Loader* edgemoe_loader_new(const char* const* files, int32_t count) { return new Loader({files, files + count}); }
void edgemoe_loader_free(Loader* loader) { delete loader; }
int32_t edgemoe_loader_failed(const Loader* loader) { return loader->failed(); }
int32_t edgemoe_loader_reason(const Loader* loader) { return loader->reason(); }
int32_t edgemoe_loader_direct(const Loader* loader) { return loader->direct(); }

// Bandwidth in bytes/s, 0 for as much as there is; latency in ns. 0, or why a thread could not be started (errno).
int32_t edgemoe_loader_configure(Loader* loader, int32_t threads, double bandwidth, int64_t latency, int32_t verify) {
  return loader->configure(threads, {bandwidth, latency}, verify != 0);
}

void edgemoe_loader_submit(Loader* loader, Read* read) { loader->submit(read); }
int32_t edgemoe_loader_cancel(Loader* loader, Read* read) { return loader->cancel(read); }
int32_t edgemoe_loader_join(Loader* loader, Read* read) { return loader->join(read); }
Read* edgemoe_loader_wait(Loader* loader) { return loader->wait(); }
Read* edgemoe_loader_poll(Loader* loader) { return loader->poll(); }
int64_t edgemoe_loader_busy(Loader* loader) { return loader->busy(); }
int64_t edgemoe_loader_read_size() { return sizeof(Read); }
uint64_t edgemoe_checksum(const uint8_t* data, int64_t bytes) { return checksum(data, bytes); }
uint64_t edgemoe_checksum_portable(const uint8_t* data, int64_t bytes) { return checksum(data, bytes, false); }

}  // extern "C"
#pragma GCC visibility pop
