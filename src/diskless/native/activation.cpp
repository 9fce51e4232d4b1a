#include "activation.h"

#include "diskless.h"
#include "elf.h"
#include "hooks.h"

namespace diskless {

std::atomic<int> activations{0};
std::atomic<int> open_streams{0};

void streams_closed() {
  if (!is_active()) patch_objects(Reach::none);
}

}  // namespace diskless

using namespace diskless;

extern "C" {

int diskless_activate(void) {
  find_originals();
  activations.fetch_add(1);
  patch_objects(Reach::all);
  return 0;
}

int diskless_deactivate(void) {
  if (activations.fetch_sub(1) == 1) patch_objects(open_streams.load() > 0 ? Reach::streams : Reach::none);
  return 0;
}

long diskless_patched_slots(void) { return count_patched_slots(); }

}  // extern "C"
