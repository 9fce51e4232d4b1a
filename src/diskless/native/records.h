// What slots held before they held our functions.
#pragma once

#include <cstdint>

#include "pages.h"

namespace diskless {

struct Record {
  void **slot;
  void *before;
  std::uint64_t seen;  // the last walk over all objects that found the slot
};

// By slot. A record counts as long as each walk over all objects finds its slot: others are of objects unloaded since,
// in whose place another one may have been loaded.
class Records {
 public:
  void begin_walk() { walk_++; }

  void mark_seen(void **slot) {
    if (Record *record = find_any(slot)) {
      if (record->seen + 1 == walk_) record->seen = walk_;
    }
  }

  const Record *find(void **slot) {
    Record *record = find_any(slot);
    return record && record->seen == walk_ ? record : nullptr;
  }

  // False where the system has no memory left.
  bool remember(void **slot, void *before) {
    if (Record *record = find_any(slot)) {
      *record = {slot, before, walk_};
      return true;
    }
    if (records_.size() * 2 >= table_.size() && !grow()) return false;
    if (!records_.push({slot, before, walk_})) return false;
    insert(static_cast<std::uint32_t>(records_.size()));
    return true;
  }

  // The slot holds again what it held: whoever is found in it next has not taken our place.
  void forget(void **slot) {
    if (Record *record = find_any(slot)) record->seen = 0;
  }

 private:
  // Open addressing; positions count from 1, and 0 is free.
  std::size_t start(void **slot) {
    return (reinterpret_cast<std::uintptr_t>(slot) >> 3) * 0x9e3779b97f4a7c15u & (table_.size() - 1);
  }

  Record *find_any(void **slot) {
    if (table_.size() == 0) return nullptr;
    for (std::size_t at = start(slot); table_[at] != 0; at = (at + 1) & (table_.size() - 1)) {
      Record &record = records_[table_[at] - 1];
      if (record.slot == slot) return &record;
    }
    return nullptr;
  }

  void insert(std::uint32_t position) {
    std::size_t at = start(records_[position - 1].slot);
    while (table_[at] != 0) at = (at + 1) & (table_.size() - 1);
    table_[at] = position;
  }

  // Twice as large, and without the records that do not count any more.
  bool grow() {
    const std::size_t size = table_.size() == 0 ? 4096 : table_.size() * 2;
    table_.clear();
    for (std::size_t i = 0; i < size; i++) {
      if (!table_.push(0)) return false;
    }
    std::size_t kept = 0;
    for (Record &record : records_) {
      if (record.seen == walk_) records_[kept++] = record;
    }
    records_.truncate(kept);
    for (std::size_t i = 1; i <= kept; i++) insert(static_cast<std::uint32_t>(i));
    return true;
  }

  Pages<Record> records_;
  Pages<std::uint32_t> table_;
  std::uint64_t walk_ = 1;
};

}  // namespace diskless
