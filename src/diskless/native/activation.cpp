#include "activation.h"

#include <cerrno>

#include "descriptor.h"
#include "diskless.h"
#include "elf.h"
#include "hooks.h"
#include "slots.h"
#include "umask.h"
#include "working_directory.h"

namespace diskless {

std::atomic<int> activations{0};
std::atomic<int> open_streams{0};
std::atomic<bool> called_by_address{false};

void streams_closed() {
  if (!is_active()) patch_objects(Reach::none);
}

}  // namespace diskless

using namespace diskless;

extern "C" {

int diskless_activate(void) {
  const bool first = activations.fetch_add(1) == 0;
  const int result = patch_objects(Reach::all);
  if (first) {
    learn_umask();
    hold_descriptors();
    if (may_stand_in_tree()) left_for_the_kernels();  // perhaps, while nobody told us
  }
  if (result < 0) diskless_deactivate();
  return result;
}

int diskless_deactivate(void) {
  if (activations.load() == 0) return -EINVAL;
  if (activations.fetch_sub(1) == 1) {
    patch_objects(open_streams.load() > 0 ? Reach::streams : Reach::none);
    let_go_of_descriptors();
    forget_umask();
  }
  return 0;
}

long diskless_patched_slots(void) { return count_patched_slots(); }

void *diskless_function(const char *name) {
  under_the_linkers_lock([](void *) { find_originals(); }, nullptr);
  const Hook *hook = find_hook(name);
  if (hook == nullptr || hook->next.load() == nullptr) return nullptr;
  called_by_address.store(true);
  return hook->ours;
}

}  // extern "C"
