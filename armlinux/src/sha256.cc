#include "sha256.h"

#include <algorithm>
#include <cstring>

namespace lite_run {

namespace {

void rounds(Sha256State& state, const uint8_t* bytes, size_t blocks) {
  static const Sha256Rounds best = cpu_rounds() != nullptr ? cpu_rounds() : plain_rounds;
  best(state, bytes, blocks);
}

}  // namespace

Sha256& Sha256::update(const void* data, size_t bytes) {
  const auto* from = static_cast<const uint8_t*>(data);
  total_bytes_ += bytes;
  if (pending_bytes_ > 0) {
    const size_t take = std::min(bytes, pending_.size() - pending_bytes_);
    std::copy_n(from, take, pending_.begin() + static_cast<ptrdiff_t>(pending_bytes_));
    pending_bytes_ += take;
    from += take;
    bytes -= take;
    if (pending_bytes_ < pending_.size()) return *this;
    rounds(state_, pending_.data(), 1);
    pending_bytes_ = 0;
  }
  const size_t whole = bytes / pending_.size();
  rounds(state_, from, whole);
  from += whole * pending_.size();
  bytes -= whole * pending_.size();
  std::copy_n(from, bytes, pending_.begin());
  pending_bytes_ = bytes;
  return *this;
}

std::string Sha256::hex() {
  const uint64_t bits = total_bytes_ * 8;
  const uint8_t one = 0x80;
  update(&one, 1);
  const uint8_t zero = 0;
  while (pending_bytes_ != 56) update(&zero, 1);
  std::array<uint8_t, 8> length;
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
  update(length.data(), length.size());
  std::string text;
  for (const uint32_t word : state_) {
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  }
  return text;
}

}  // namespace lite_run
