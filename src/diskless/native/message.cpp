#include "message.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "diskless.h"
#include "kernel.h"

namespace diskless {

namespace {

enum State : int { free_place, being_written, said };

struct Place {
  std::atomic<int> state{free_place};
  char text[640];
};

Place places[8];  // what finds none free is not said: the user has read worse things by then

}  // namespace

void say(const char *before, std::string_view subject, const char *after) {
  kernel::KeepErrno keep;
  char shown[256];
  const std::size_t length = subject.size() < sizeof shown ? subject.size() : sizeof shown - 1;
  std::memcpy(shown, subject.data(), length);
  shown[length] = '\0';
  char text[sizeof Place::text];
  std::snprintf(text, sizeof text, "%s%s%s; use backing=\"directory:<path>\" for what other programs are to see",
                before, shown, after);
  for (const Place &place : places) {
    if (place.state.load() == said && std::strcmp(place.text, text) == 0) return;
  }
  for (Place &place : places) {
    int expected = free_place;
    if (!place.state.compare_exchange_strong(expected, being_written)) continue;
    std::memcpy(place.text, text, sizeof text);
    place.state.store(said);
    return;
  }
}

}  // namespace diskless

using namespace diskless;

extern "C" {

int diskless_take_message(char *buffer, int size) {
  for (Place &place : places) {
    int expected = said;
    if (size <= 0 || !place.state.compare_exchange_strong(expected, being_written)) continue;
    std::snprintf(buffer, static_cast<std::size_t>(size), "%s", place.text);
    place.state.store(free_place);
    return static_cast<int>(std::strlen(buffer));
  }
  return 0;
}

}  // extern "C"
