#include "lookup.h"

#include <sys/stat.h>

#include <cstring>

#include "permission.h"

namespace diskless {

namespace {

constexpr int links_allowed = 40;  // the kernel's MAXSYMLINKS

// Components are short: libc's strspn and strcspn take longer to begin than these to end.
const char *past_slashes(const char *path) {
  while (*path == '/') ++path;
  return path;
}
const char *past_name(const char *path) {
  while (*path != '/' && *path != '\0') ++path;
  return path;
}

}  // namespace

Lookup::Lookup(int dirfd, const char *path, Follow follow, unsigned resolve)
    : follow_(follow), resolve_(resolve), dirfd_(dirfd), path_(path), next_(pending_ + sizeof pending_ - 1) {
  kernel::KeepErrno keep;
  *next_ = '\0';
  start(dirfd, path);
  if (!done_) run();
  if (!in_tree_ && rewritten_) {
    dirfd_ = AT_FDCWD;
    path_ = canonical_;
  }
}

Lookup::~Lookup() {
  if (locked_) {
    end_change();
  } else if (in_tree_ && !released_) {
    tree_lock.unlock_shared();
  }
}

bool Lookup::lock_for_change(Lookup *other) {
  kernel::KeepErrno keep;
  const std::uint64_t version = names_version;
  released_ = true;
  tree_lock.unlock_shared();
  if (other != nullptr) {
    other->released_ = true;
    tree_lock.unlock_shared();
  }
  begin_change();
  locked_ = true;
  return version == names_version;
}

int Lookup::wait_for_bytes() {
  const Gate &gate = *inode_->gate;
  released_ = true;
  tree_lock.unlock_shared();
  return wait_at(gate);
}

int Lookup::error_of_existing() const {
  if (error_ != 0) return error_;
  if (inode_ == nullptr) return ENOENT;
  return trailing_slash_ && !inode_->is_directory() ? ENOTDIR : 0;
}

std::string Lookup::canonical() const {
  if (!inode_->is_file() || parent_ == nullptr) return path_of(*inode_);
  std::string path = path_of(*parent_);
  path += '/';
  path += name_;
  return path;
}

bool Lookup::follows(bool last) const {
  return !last || follow_ == Follow::yes || (trailing_slash_ && follow_ == Follow::no);
}

bool Lookup::prepend(std::string_view text) {
  if (text.size() > static_cast<std::size_t>(next_ - pending_)) return false;
  next_ -= text.size();
  std::memcpy(next_, text.data(), text.size());
  return true;
}

// Also where the way led back to the real filesystem: only we know the whole of it.
void Lookup::fail(int error) {
  if (!in_tree_) tree_lock.lock_shared();
  in_tree_ = true;
  error_ = error;
  inode_ = nullptr;
  done_ = true;
}

void Lookup::run() {
  if (*next_ == '/' && (resolve_ & resolve_beneath) != 0 && limit_ != nullptr) return fail(EXDEV);
  while (!done_) {
    const char *name = past_slashes(next_);
    if (*name == '\0') {
      trailing_slash_ = trailing_slash_ || name != next_;
      break;
    }
    const char *end = past_name(name);
    const std::string_view component{name, static_cast<std::size_t>(end - name)};
    next_ += end - next_;
    const bool last = *past_slashes(end) == '\0';
    trailing_slash_ = last && *end == '/';
    if (in_tree_ && !at_->is_directory()) return fail(ENOTDIR);
    const bool asked = (resolve_ & resolve_by_names) == 0 || (component != "." && component != "..");
    if (in_tree_ && asked && !permits(*at_, X_OK, Who::effective)) return fail(EACCES);
    if (component == ".") {
      last_ = Last::dot;
      if (in_tree_) inode_ = at_;
      continue;
    }
    if (component == "..") {
      last_ = Last::dotdot;
      if (!climb()) return;
      continue;
    }
    last_ = Last::name;
    if (!(in_tree_ ? step_in_tree(component, last) : step_in_reality(component, last))) return;
  }
  if (!done_ && !in_tree_) finish_elsewhere({});
}

bool Lookup::step_in_tree(std::string_view component, bool last) {
  if (last && trailing_slash_) slash_behind_name_ = true;
  // A removed directory is not asked whether a name is too long.
  if (component.size() > NAME_MAX && !(last && follow_ == Follow::parent) && !at_->is_removed()) {
    fail(ENAMETOOLONG);
    return false;
  }
  Inode *found = at_->find_visible(component);
  if (found == nullptr) {
    if (!last) {
      fail(ENOENT);
      return false;
    }
    parent_ = at_;
    name_ = component;  // stays in pending_
    inode_ = nullptr;
    done_ = true;
    return false;
  }
  if (found->is_symlink() && follows(last)) {
    if (const int error = last ? may_follow(*at_, *found) : 0) {
      fail(error);
      return false;
    }
    return follow_link(found->target);
  }
  parent_ = at_;
  name_ = component;
  inode_ = at_ = found;
  return true;
}

bool Lookup::step_in_reality(std::string_view component, bool last) {
  if (Overlay *overlay = overlay_here(component)) {
    rewritten_ = true;
    return enter(overlay->top) && step_in_tree(component, last);
  }
  // Only real symlinks could lead back to /diskless, and those are not looked for (roots.h).
  if (shadow_count.load() == 0 && std::strstr(next_, "diskless") == nullptr) {
    finish_elsewhere(component);
    return false;
  }
  if (length_ == 0 && component == "proc") {  // its links are magic
    finish_elsewhere(component);
    return false;
  }
  if (length_ + component.size() + 2 > PATH_MAX) {
    finish_elsewhere(component);
    return false;
  }
  const std::size_t before = length_;
  canonical_[length_++] = '/';
  std::memcpy(canonical_ + length_, component.data(), component.size());
  length_ += component.size();
  canonical_[length_] = '\0';
  if (is_known_directory({canonical_, length_})) {
    here_ = {};
    return true;
  }
  struct stat status;
  const bool there = kernel::fstatat(AT_FDCWD, canonical_, &status, AT_SYMLINK_NOFOLLOW) == 0;
  if (there && S_ISDIR(status.st_mode)) {
    here_ = {status.st_dev, status.st_ino};
    if (Inode *root = root_over(here_)) {
      rewritten_ = true;
      return enter(*root);
    }
    return true;
  }
  char target[PATH_MAX];
  ssize_t size = -1;
  if (there && S_ISLNK(status.st_mode) && follows(last)) {
    size = kernel::readlink(canonical_, target, sizeof target);
  }
  length_ = before;
  canonical_[length_] = '\0';
  if (size <= 0 || (!rewritten_ && links_ >= links_allowed)) {
    finish_elsewhere(component);
    return false;
  }
  return follow_link({target, static_cast<std::size_t>(size)});
}

// Goes on with `target` before what is left, as a symlink's text.
bool Lookup::follow_link(std::string_view target) {
  if ((resolve_ & resolve_no_symlinks) != 0 || ++links_ > links_allowed) {
    fail(ELOOP);
    return false;
  }
  if (target.empty() || !prepend(target)) {
    fail(target.empty() ? ENOENT : ENAMETOOLONG);
    return false;
  }
  if (target[0] == '/') {
    if (in_tree_ && (resolve_ & (resolve_in_root | resolve_beneath)) != 0 && limit_ != nullptr) {
      if ((resolve_ & resolve_beneath) != 0) {
        fail(EXDEV);
        return false;
      }
      inode_ = at_ = limit_;
      return true;
    }
    leave({});
    return !done_;
  }
  if (in_tree_) inode_ = at_;
  return true;
}

bool Lookup::climb() {
  if (in_tree_) {
    if (at_ == limit_ && (resolve_ & (resolve_beneath | resolve_in_root)) != 0) {
      if ((resolve_ & resolve_in_root) != 0) {
        inode_ = at_;
        return true;
      }
      fail(EXDEV);
      return false;
    }
    Inode *parent = at_->parent();
    if (parent == nullptr) parent = find_directory(at_->was_below);  // removed
    if (parent == nullptr) {
      fail(ENOENT);
      return false;
    }
    if (parent->overlay != nullptr && parent->overlay->over != nullptr) {
      parent = parent->overlay->over;
    } else if (parent->overlay != nullptr) {
      const std::string &path = parent->overlay->path;
      leave(path == "/" ? std::string_view{} : std::string_view{path});
      return !done_;
    }
    inode_ = at_ = parent;
    parent_ = nullptr;
    return true;
  }
  while (length_ > 0 && canonical_[--length_] != '/') {
  }
  canonical_[length_] = '\0';
  here_ = {};
  struct stat status;
  if (shadow_count.load() != 0 && kernel::fstatat(AT_FDCWD, length_ == 0 ? "/" : canonical_, &status, 0) == 0) {
    here_ = {status.st_dev, status.st_ino};
  }
  return true;
}

bool Lookup::enter(Inode &inode) {
  in_tree_ = true;  // whoever found `inode` took the lock
  if ((resolve_ & resolve_no_xdev) != 0) {
    fail(EXDEV);
    return false;
  }
  inode_ = at_ = &inode;
  parent_ = nullptr;
  return true;
}

void Lookup::leave(std::string_view canonical) {
  if (in_tree_) {
    if ((resolve_ & resolve_no_xdev) != 0) return fail(EXDEV);
    rewritten_ = true;
    if (!canonical.empty()) std::memcpy(canonical_, canonical.data(), canonical.size());
    tree_lock.unlock_shared();
    in_tree_ = false;
    at_ = inode_ = parent_ = nullptr;
  }
  length_ = canonical.size();
  canonical_[length_] = '\0';
  here_ = {};
}

// Both return with the lock held if they find something, and without it otherwise.
Overlay *Lookup::overlay_here(std::string_view component) {
  const std::string_view path = length_ == 0 ? std::string_view{"/"} : std::string_view{canonical_, length_};
  tree_lock.lock_shared();
  for (const auto &overlay : overlays()) {
    if (overlay->over != nullptr) continue;
    if (overlay->path != path && (here_ == Identity{} || !(overlay->identity == here_))) continue;
    if (overlay->top.find(component) != nullptr) return overlay.get();
  }
  tree_lock.unlock_shared();
  return nullptr;
}

Inode *Lookup::root_over(const Identity &directory) {
  tree_lock.lock_shared();
  for (const auto &root : roots()) {
    if (root->beneath == directory) return root->directory->find(root->name);
  }
  tree_lock.unlock_shared();
  return nullptr;
}

// Whether `canonical` is a directory above a shadow: canonical paths hold no symlink, so there is nothing to ask.
bool Lookup::is_known_directory(std::string_view canonical) {
  bool known = false;
  tree_lock.lock_shared();
  for (const auto &overlay : overlays()) {
    if (overlay->over != nullptr) continue;
    const std::string_view path = overlay->path;
    known = path.starts_with(canonical) && (path.size() == canonical.size() || path[canonical.size()] == '/');
    if (known) break;
  }
  tree_lock.unlock_shared();
  return known;
}

void Lookup::finish_elsewhere(std::string_view component) {
  done_ = true;
  error_ = 0;
  if (!rewritten_) return;
  const std::size_t rest = std::strlen(next_);
  if (length_ + component.size() + rest + 2 > sizeof canonical_) {
    length_ = sizeof canonical_ - component.size() - rest - 2;  // too long for the kernel, which says so
  }
  if (!component.empty()) {
    canonical_[length_++] = '/';
    std::memcpy(canonical_ + length_, component.data(), component.size());
    length_ += component.size();
  } else if (length_ == 0) {
    canonical_[length_++] = '/';
  }
  std::memcpy(canonical_ + length_, next_, rest + 1);
}

}  // namespace diskless
