// The rounds of SHA-256: plain C++, and the instructions that many CPUs have for them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace lite_run {

using Sha256State = std::array<uint32_t, 8>;
// Takes so many blocks of 64 bytes.
using Sha256Rounds = void (*)(Sha256State& state, const uint8_t* bytes, size_t blocks);

void plain_rounds(Sha256State& state, const uint8_t* bytes, size_t blocks);
// By instructions of this CPU; null where it has none, or the compiler knows none.
Sha256Rounds cpu_rounds();

}  // namespace lite_run
