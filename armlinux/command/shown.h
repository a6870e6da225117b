// Texts as a terminal may have them.
#pragma once

#include <string>

namespace command {

// Names of files, labels and bundles are somebody else's: what would move the cursor, colour, turn
// the direction of writing or end a line is written as an escape, such as "\x1b".
std::string shown(const std::string& text);

// A JSON text that means the same, with those characters escaped that JSON leaves as they are.
std::string shown_json(const std::string& text);

}  // namespace command
