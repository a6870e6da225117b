// sha256, .npy, .nb and bundle.json: what is read, and what is refused.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>

#include "bundle.h"
#include "error.h"
#include "file.h"
#include "made_bundle.h"
#include "nb.h"
#include "npy.h"
#include "probe.h"
#include "sha256.h"

using lite_run::Array;
using lite_run::Error;
using nlohmann::json;

namespace {

std::string hash_of(const std::string& text) {
  return lite_run::Sha256().update(text.data(), text.size()).hex();
}

// The message of the Error that a call throws; "" where it throws none.
template <typename Call>
std::string refusal(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool says(const std::string& text, const std::string& part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE("'" << text << "' does not say '" << part << "'");
  return found;
}

std::string npy(const std::string& header, const std::string& data, char version = 1) {
  std::string text = "\x93NUMPY";
  text += version;
  text += '\0';
  text += static_cast<char>(header.size() & 255);
  text += static_cast<char>(header.size() >> 8);
  if (version > 1) text += std::string(2, '\0');
  return text + header + data;
}

lite_run::NpyHeader parsed(const std::string& text) {
  return lite_run::parse_npy_header(reinterpret_cast<const uint8_t*>(text.data()), text.size(),
                                    text.size());
}

std::string npy_refusal(const std::string& text) {
  return refusal([&] { parsed(text); });
}

}  // namespace

TEST_CASE("SHA-256 gives the digests of FIPS 180-4's examples") {
  CHECK(hash_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hash_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hash_of(std::string(1000000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  lite_run::Sha256 parts;
  for (const char c : std::string(1000, 'a')) parts.update(&c, 1);
  CHECK(parts.hex() == hash_of(std::string(1000, 'a')));
}

TEST_CASE("SHA-256 by the CPU's instructions is that of plain C++") {
  const lite_run::Sha256Rounds by_cpu = lite_run::cpu_rounds();
  if (by_cpu == nullptr) {
    MESSAGE("this CPU has no instructions for it");
    return;
  }
  std::vector<uint8_t> bytes(64 * 17);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * i >> 3);
  for (const size_t blocks : {0, 1, 2, 17}) {
    lite_run::Sha256State one = {1, 2, 3, 4, 0xffffffff, 0x80000000, 7, 8};
    lite_run::Sha256State other = one;
    by_cpu(one, bytes.data(), blocks);
    lite_run::plain_rounds(other, bytes.data(), blocks);
    CHECK(one == other);
  }
}

TEST_CASE(".npy is written and read back") {
  const Scratch scratch;
  for (const auto& shape : {std::vector<int64_t>{}, {3}, {2, 3}, {0, 4}, {1, 2, 1, 3}}) {
    Array array{"int16", shape, {}};
    array.data.resize(array.count() * 2);
    for (size_t i = 0; i < array.data.size(); ++i) array.data[i] = static_cast<uint8_t>(i);
    lite_run::write_npy(scratch / "a.npy", array);
    CHECK(lite_run::file_size(scratch / "a.npy") % 64 == array.data.size() % 64);
    const Array again = lite_run::read_npy(scratch / "a.npy");
    CHECK(again.dtype == array.dtype);
    CHECK(again.shape == array.shape);
    CHECK(again.data == array.data);
  }
}

TEST_CASE(".npy headers of every version and spelling are read") {
  const std::string floats(24, 'x');
  for (const char version : {1, 2, 3}) {
    const auto header = parsed(
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", floats, version));
    CHECK(header.dtype == "float32");
    CHECK(header.shape == std::vector<int64_t>{2, 3});
  }
  CHECK(
      parsed(npy("{\"shape\":(6,),\"descr\":\"<f4\",\"fortran_order\":False}", floats)).shape[0] ==
      6);
  CHECK(parsed(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (24,)}", floats)).dtype ==
        "uint8");
  CHECK(parsed(npy("{'descr': '|b1', 'fortran_order': False, 'shape': ()}", "x")).shape.empty());
}

TEST_CASE(".npy files that are damaged, hostile or of another kind are refused") {
  const std::string floats(24, 'x');
  const auto with = [&](const std::string& descr, const std::string& order,
                        const std::string& shape) {
    return npy_refusal(
        npy("{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }",
            floats));
  };
  CHECK(with("'<f4'", "False", "(2, 3)").empty());
  CHECK(says(with("'<f4'", "True", "(2, 3)"), "Fortran order"));
  CHECK(says(with("'>f4'", "False", "(2, 3)"), "'>f4', which is not supported"));
  CHECK(says(with("'|O'", "False", "(2, 3)"), "not supported"));
  CHECK(says(with("[('a', '<f4')]", "False", "(6,)"), "not plain numbers"));
  CHECK(says(with("'<f4'", "False", "(2, 4)"), "24 bytes of elements, 32 expected"));
  CHECK(says(with("'<f4'", "False", "(2, 2)"), "24 bytes of elements, 16 expected"));
  CHECK(says(with("'<f4'", "False", "(-2, 3)"), "shape"));
  CHECK(says(with("'<f4'", "False", "(99999999999999999999999, 3)"), "too large"));
  CHECK(says(with("'<f4'", "False", "(4294967296, 4294967296, 4294967296)"), "too large"));
  CHECK(says(with("'<f4'", "False", "(4294967296, 4294967296, 0)"), "too large"));
  CHECK(says(with("'<f4'", "False", "6"), "header"));
  CHECK(says(with("'<f4'", "maybe", "(6,)"), "header"));
  std::string deep = "(";
  for (int i = 0; i < 40; ++i) deep += "1, ";
  CHECK(says(with("'<f4'", "False", deep + ")"), "shape"));
  CHECK(says(npy_refusal("PK\x03\x04"), "not a .npy file"));
  CHECK(says(npy_refusal(npy("{}", "")), "header"));
  CHECK(says(npy_refusal(npy("{'descr': '<f4'}", floats)), "header"));
  CHECK(says(npy_refusal(npy("", "", 4)), "version 4"));
  const std::string whole =
      npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", floats);
  for (size_t size = 0; size < whole.size(); ++size)
    CHECK(!npy_refusal(whole.substr(0, size)).empty());
}

TEST_CASE("files are read within bounds, and devices and pipes not at all") {
  const Scratch scratch;
  write_text(scratch / "f", "12345");
  CHECK(lite_run::read_file(scratch / "f", 5).size() == 5);
  CHECK(says(refusal([&] { lite_run::read_file(scratch / "f", 4); }), "too large: 5 bytes"));
  CHECK(says(refusal([&] { lite_run::read_file(scratch / "none", 4); }), "No such file"));
  CHECK(says(refusal([] { lite_run::read_file("/dev/zero", 4); }), "not a regular file"));
  REQUIRE(::mkfifo((scratch / "pipe").c_str(), 0600) == 0);
  CHECK(says(refusal([&] { lite_run::read_file(scratch / "pipe", 4); }), "not a regular file"));
  write_text(scratch / "empty", "");
  CHECK(says(refusal([&] { lite_run::MappedFile{scratch / "empty"}; }), "is empty"));
}

TEST_CASE("a folder takes the place of another at once, and where that fails the other is back") {
  const Scratch scratch;
  const std::string run = scratch / "run", link = scratch / "link";
  std::filesystem::create_directory(run);
  write_text(run + "/run.json", "old");
  {
    lite_run::WholeFolder folder(run, true);
    std::filesystem::remove_all(folder.path());
    CHECK(says(refusal([&] { folder.commit(); }), "cannot be written"));
  }
  CHECK(read_text(run + "/run.json") == "old");
  std::filesystem::create_symlink("run", link);
  {
    lite_run::WholeFolder folder(link, true);
    write_text(folder.path() + "/run.json", "new");
    folder.commit();
  }
  CHECK(std::filesystem::is_symlink(link));
  CHECK(read_text(run + "/run.json") == "new");
  std::filesystem::create_symlink("none", scratch / "broken");
  CHECK(says(refusal([&] { lite_run::WholeFolder folder(scratch / "broken", true); }),
             "is not a run"));
  const std::filesystem::directory_iterator left(scratch / "");
  CHECK(std::distance(begin(left), end(left)) == 3);  // run, link, broken
}

TEST_CASE("names that leave the folder are recognised") {
  for (const char* name : {"model.nb", "a/b.npy", "./a", "a..b", "..a"}) {
    CHECK_MESSAGE(lite_run::stays_inside(name), name);
  }
  for (const std::string& name :
       {std::string(""), std::string("/etc/passwd"), std::string("../a"), std::string("a/../../b"),
        std::string("a/.."), std::string("a\0b", 3)}) {
    CHECK_MESSAGE(!lite_run::stays_inside(name), name);
  }
}

TEST_CASE("a .nb file is stepped through") {
  const std::string whole(std::begin(lite_run::kProbe), std::end(lite_run::kProbe));
  const auto parse = [](const std::string& text) {
    return lite_run::parse_nb(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  };
  CHECK(parse(whole).opt_version == "v2.13-rc");
  CHECK(parse(whole).params == 0);
  for (size_t size = 0; size < whole.size(); ++size) {
    CHECK(!refusal([&] { parse(whole.substr(0, size)); }).empty());
  }
  CHECK(says(refusal([&] { parse(whole + "x"); }), "1 bytes too many"));
  std::string old = whole;
  old[0] = 1;
  CHECK(says(refusal([&] { parse(old); }), "format version 1"));
  std::string odd = whole;
  odd[3] = '\x07';
  CHECK(says(refusal([&] { parse(odd); }), "unreadable"));
  std::string huge = whole;
  std::memset(&huge[18], 0xff, 8);  // the size of the topology
  CHECK(says(refusal([&] { parse(huge); }), "truncated"));
}

TEST_CASE("libraries before 2.10 are refused for files of later versions") {
  using lite_run::Fit;
  CHECK(lite_run::version_fit("v2.13-rc", "v2.13-rc") == Fit::kSame);
  CHECK(lite_run::version_fit("v2.13", "v2.13-rc") == Fit::kSame);
  CHECK(lite_run::version_fit("v2.12", "v2.13-rc") == Fit::kUnsure);
  CHECK(lite_run::version_fit("v2.14-rc", "v2.13-rc") == Fit::kUnsure);
  CHECK(lite_run::version_fit("v2.9", "v2.13-rc") == Fit::kRefused);
  CHECK(lite_run::version_fit("v2.8-rc", "v2.10") == Fit::kRefused);
  CHECK(lite_run::version_fit("v2.9.1", "v2.9") == Fit::kSame);
  CHECK(lite_run::version_fit("044ba5b", "v2.13-rc") == Fit::kUnsure);
  CHECK(lite_run::version_fit("", "v2.13-rc") == Fit::kUnsure);
}

TEST_CASE("a manifest is read, and refused in words where a field is of no use") {
  const Scratch scratch;
  const std::string folder = scratch / "b";
  write_bundle(folder);
  const std::string text = read_text(folder + "/bundle.json");
  const auto bundle = lite_run::parse_bundle("b", text);
  CHECK(bundle.name == "hands on");
  CHECK(bundle.sha256 == hash_of(text));
  CHECK(bundle.inputs[0].shape == std::vector<int64_t>{-1, 10});
  CHECK(bundle.samples[2].label == 2);
  CHECK(bundle.limits(bundle.target_here()).cosine == 0.99999);

  const auto edited = [&](const std::function<void(json&)>& edit) {
    json document = json::parse(text);
    edit(document);
    return refusal([&] { lite_run::parse_bundle("b", document.dump()); });
  };
  CHECK(edited([](json&) {}).empty());
  for (const char* name :
       {"name", "recipe", "targets", "inputs", "outputs", "image", "labels", "samples"}) {
    CHECK(says(edited([&](json& d) { d.erase(name); }),
               std::string("field '") + name + "' is missing"));
    CHECK(!edited([&](json& d) { d[name] = 7; }).empty());
  }
  CHECK(says(edited([](json& d) { d["format"] = 2; }), "bundle format 2"));
  CHECK(says(edited([](json& d) { d["format"] = "\xc3\xa9 1 and so on and on and on"; }),
             "bundle format"));
  CHECK(says(edited([](json& d) { d["targets"]["arm"]["file"] = "../model.nb"; }), "leads out"));
  CHECK(says(edited([](json& d) { d["samples"][1]["feeds"]["x"] = "/etc/passwd"; }), "leads out"));
  CHECK(says(edited([](json& d) { d["samples"][1]["id"] = "s0"; }), "twice"));
  CHECK(says(edited([](json& d) { d["inputs"][0]["shape"][0] = -2; }), "shape"));
  CHECK(says(edited([](json& d) { d["inputs"][0]["shape"][0] = 1.5; }), "whole number"));
  CHECK(says(edited([](json& d) { d["inputs"][0]["shape"][0] = uint64_t{1} << 63; }), "63 bits"));
  CHECK(says(edited([](json& d) { d["targets"]["arm"]["bytes"] = -1; }), "size"));
  CHECK(says(edited([](json& d) {
               d["labels"] = {"a", "b"};
             }),
             "b: 2 labels for a model of 10 classes"));
  // Of other tasks, labels are not classes of a row.
  const auto with_task = [&](const json& task) {
    return edited([&](json& d) {
      d["labels"] = {"a", "b"};
      d["task"] = task;
    });
  };
  CHECK(says(with_task({{"name", "classification"}}), "b: 2 labels"));
  CHECK(says(with_task(nullptr), "b: 2 labels"));
  CHECK(with_task({{"name", "detection"}, {"threshold", 0.5}}).empty());
  CHECK(says(with_task({{"threshold", 0.5}}), "field 'name' is missing"));
  CHECK(says(with_task("detection"), "not an object"));
  CHECK(edited([](json& d) { d["labels"] = nullptr; }).empty());
  CHECK(says(edited([](json& d) { d["name"] = std::string("a\0b", 3); }), "zero bytes"));
  CHECK(says(edited([](json& d) { d["recipe"]["limits"] = {{"cosine", "high"}}; }), "number"));
  for (const auto& limit : std::map<std::string, double>{
           {"cosine", 1.01}, {"max_abs_diff", -1e-9}, {"top1_drop", -101}, {"noise_times", -1}}) {
    const std::string& name = limit.first;
    const auto wrong = edited([&](json& d) {
      d["recipe"]["limits"] = {{"cosine", 1}, {"max_abs_diff", 0}, {"top1_drop", 100}};
      d["recipe"]["limits"][name] = limit.second;
    });
    CHECK(says(wrong, "the limit " + name + " is "));
  }
  for (const char* broken : {"", "{", "[1]", "null", "{\"format\": 1e400}", "\xff"}) {
    CHECK(!refusal([&] { lite_run::parse_bundle("b", broken); }).empty());
  }
  const std::string deep(200000, '[');
  CHECK(says(refusal([&] { lite_run::parse_bundle("b", deep); }), "not JSON"));
}

TEST_CASE("a bundle's own limits are used for targets of its recipe") {
  const Scratch scratch;
  write_bundle(scratch / "b", [](json& d) {
    d["recipe"] = {{"name", "int8"},
                   {"limits", {{"cosine", 0.5}, {"max_abs_diff", nullptr}, {"top1_drop", 3}}}};
    d["targets"]["arm"]["precision"] = "int8";
  });
  const auto bundle = lite_run::Bundle::open(scratch / "b");
  CHECK(bundle.limits(bundle.targets.at("arm")).cosine == 0.5);
  CHECK(bundle.limits(bundle.targets.at("arm")).top1_drop == 3);
  CHECK(bundle.limits(bundle.targets.at("x86")).cosine == 0.99999);  // its fp32 twin
}

TEST_CASE("samples that are missing, altered or do not fit are refused") {
  const Scratch scratch;
  const std::string folder = scratch / "b";
  write_bundle(folder);
  const auto bundle = lite_run::Bundle::open(folder);
  const auto read = [&] {
    return refusal([&] { lite_run::read_sample(folder, bundle.samples[0], bundle.inputs); });
  };
  CHECK(read().empty());
  const std::string file = folder + "/samples/0000.0.npy";
  std::string data = read_text(file);
  data.back() = static_cast<char>(data.back() ^ 1);
  write_text(file, data);
  CHECK(says(read(), "were altered"));
  lite_run::write_npy(file, {"float32", {10}, std::vector<uint8_t>(40)});
  CHECK(says(read(), "takes float32[?, 10], not float32[10]"));
  std::filesystem::rename(file, scratch / "elsewhere.npy");
  CHECK(says(read(), "No such file"));
  std::filesystem::create_symlink(scratch / "elsewhere.npy", file);
  CHECK(says(read(), "leads out of the folder"));
  std::filesystem::remove(file);
  std::filesystem::rename(scratch / "elsewhere.npy", folder + "/inside.npy");
  std::filesystem::create_symlink("../inside.npy", file);
  CHECK(says(read(), "float32[10]"));  // read, and still wrong
}
