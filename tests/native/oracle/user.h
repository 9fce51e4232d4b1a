// User: who does the operations. An ordinary one comes back as root between them, by the saved user id.
#pragma once

#include <sys/types.h>

class User {
 public:
  // Root may be anybody, an ordinary user only who it is.
  explicit User(uid_t id);

  uid_t id() const { return id_; }
  // Whether there can be things that belong to somebody else.
  bool has_root() const { return has_root_; }

  // Real and effective ids, and without root's capabilities.
  void become() const;
  void leave() const;

  // For what the user may not see. The ids that count for files are the effective ones.
  class AsRoot {
   public:
    explicit AsRoot(const User &user);
    ~AsRoot();
    AsRoot(const AsRoot &) = delete;
    AsRoot &operator=(const AsRoot &) = delete;

   private:
    const User &user_;
  };

 private:
  uid_t id_;
  bool has_root_;
  bool other_;  // than who it was before
};
