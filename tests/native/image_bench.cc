// How long reading, decoding and preprocessing take on one thread, in milliseconds: the best of
// many, for benchmarks/native.py.
//
//   image_bench SPEC.json FILE [REPEATS]
//
// Prints one JSON object: "decode_ms", "apply_ms", and "total_ms", with reading the file. Where
// CMake found OpenCV, it also times cv::imread, cv::resize of the whole image, the crop and the
// normalisation that OpenCV users write: "opencv_apply_ms", "opencv_total_ms". That path knows the
// short side and the crop of the spec, and ImageNet's mean and deviation.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#ifdef WITH_OPENCV
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

#include "file.h"
#include "image.h"

namespace {

template <typename Work>
double best_ms(int repeats, const Work& work) {
  double best = 1e300;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return best;
}

#ifdef WITH_OPENCV
std::vector<float> opencv_apply(const cv::Mat& image, int side, int crop) {
  const double scale = static_cast<double>(side) / std::min(image.cols, image.rows);
  cv::Mat resized;
  cv::resize(image, resized, {cvRound(image.cols * scale), cvRound(image.rows * scale)});
  const cv::Rect window((resized.cols - crop) / 2, (resized.rows - crop) / 2, crop, crop);
  cv::Mat values;
  cv::cvtColor(resized(window), values, cv::COLOR_BGR2RGB);
  values.convertTo(values, CV_32FC3, 1 / 255.0);
  values = (values - cv::Scalar(0.485, 0.456, 0.406)) / cv::Scalar(0.229, 0.224, 0.225);
  std::vector<float> tensor(static_cast<size_t>(3 * crop * crop));
  std::vector<cv::Mat> planes;
  planes.reserve(3);
  for (int c = 0; c < 3; ++c) {
    planes.emplace_back(crop, crop, CV_32F,
                        tensor.data() + static_cast<ptrdiff_t>(c) * crop * crop);
  }
  cv::split(values, planes);
  return tensor;
}
#endif

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): a tool for tests
int main(int count, char** arguments) {
  if (count < 3) return 2;
  std::ifstream spec_file(arguments[1]);
  const nlohmann::json json = nlohmann::json::parse(spec_file);
  const lite_run::ImageSpec spec = lite_run::ImageSpec::parse(json);
  const std::string path = arguments[2];
  const auto read = [&] { return lite_run::read_file(path, 1 << 30); };
  const std::vector<uint8_t> data = read();
  const int repeats = count > 3 ? std::atoi(arguments[3]) : 20;

  lite_run::Pixels pixels;
  const auto decode = [&] { pixels = spec.decode(data.data(), data.size()); };
  const double decode_ms = best_ms(repeats, decode);
  const auto shape = spec.shape(pixels.width, pixels.height);
  std::vector<float> tensor(static_cast<size_t>(shape[1] * shape[2] * shape[3]));
  const auto apply = [&] {
    spec.apply(pixels.rgb.data(), pixels.width, pixels.height,
               static_cast<ptrdiff_t>(pixels.width) * 3, 3, tensor.data());
  };
  const double apply_ms = best_ms(repeats, apply);
  const double total_ms = best_ms(repeats, [&] {
    const std::vector<uint8_t> again = read();
    pixels = spec.decode(again.data(), again.size());
    apply();
  });
  nlohmann::json result = {
      {"decode_ms", decode_ms}, {"apply_ms", apply_ms}, {"total_ms", total_ms}};
#ifdef WITH_OPENCV
  cv::setNumThreads(1);
  const cv::Mat image = cv::imread(path, cv::IMREAD_COLOR);
  const int side = json.at("size").get<int>();
  const int crop = json.at("crop").at(0).get<int>();
  float kept = 0;
  result["opencv_apply_ms"] = best_ms(repeats, [&] { kept += opencv_apply(image, side, crop)[0]; });
  result["opencv_total_ms"] = best_ms(
      repeats, [&] { kept += opencv_apply(cv::imread(path, cv::IMREAD_COLOR), side, crop)[0]; });
  if (kept == 12345.0F) return 1;  // so that the work is not optimised away
#endif
  std::printf("%s\n", result.dump().c_str());
  return 0;
}
