// Sentences for the log, where an errno does not tell the user what to do about it.
//
// They are kept in a few fixed places until Python takes them and logs them: who has one to say may be a vfork child,
// whose stderr is somebody's pipe already, and which may take no lock and wait for nobody. Its memory is its parent's,
// so the parent finds what it said.
#pragma once

#include <string_view>

namespace diskless {

// "`before``subject``after`", and what to use instead. Said once until it is taken.
void say(const char *before, std::string_view subject, const char *after);

}  // namespace diskless
