#include "user.h"

#include <grp.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace {

void must(int result, const char *what) {
  if (result == 0) return;
  std::perror(what);
  std::exit(2);
}

}  // namespace

User::User(uid_t id) : id_(id), has_root_(::getuid() == 0), other_(id != ::getuid()) {
  if (!other_ || has_root_) return;
  std::fprintf(stderr, "only root can be somebody else\n");
  std::exit(2);
}

void User::become() const {
  if (!other_) return;
  const gid_t group = 100;
  must(::setgroups(1, &group), "setgroups");
  must(::setresgid(id_, id_, 0), "setresgid");
  must(::setresuid(id_, id_, 0), "setresuid");
}

void User::leave() const {
  if (!other_) return;
  must(::setresuid(0, 0, 0), "setresuid");
  must(::setresgid(0, 0, 0), "setresgid");
  must(::setgroups(0, nullptr), "setgroups");
}

User::AsRoot::AsRoot(const User &user) : user_(user) {
  if (user_.other_) must(::seteuid(0), "seteuid");
}

User::AsRoot::~AsRoot() {
  if (user_.other_) must(::seteuid(user_.id_), "seteuid");
}
