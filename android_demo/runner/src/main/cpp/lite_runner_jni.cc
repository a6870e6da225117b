// The natives of paddle.edge.runner.LiteRunner over lite_run.h.
//
// Text crosses the border as UTF-8 bytes: JNI's own strings are "modified" UTF-8, which has other
// bytes beyond U+FFFF. Whatever fails becomes a LiteException; no C++ exception passes into the
// JVM. LiteRunner keeps calls of one session apart and never passes a handle that was closed.
#include <jni.h>

#include <cstdint>
#include <exception>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "lite_run.h"

namespace {

constexpr const char* kRunner = "paddle/edge/runner/LiteRunner";
constexpr const char* kException = "paddle/edge/runner/LiteException";
constexpr const char* kProgress = "paddle/edge/runner/LiteRunner$Progress";

// Global references, made by JNI_OnLoad; they live as long as the library, which a JVM unloads
// with the class loader, if ever.
jclass exception_class = nullptr;
jmethodID exception_new = nullptr;
jclass object_class = nullptr;
jmethodID progress_done = nullptr;

// A Java exception is pending: unwind to the border.
struct Pending {};

struct Failure : std::runtime_error {
  Failure(int code, const std::string& what) : std::runtime_error(what), status(code) {}
  int status;
};

template <typename T>
T checked(JNIEnv* env, T value) {
  if (env->ExceptionCheck()) throw Pending();
  return value;
}

jbyteArray bytes_of(JNIEnv* env, const void* data, size_t size) {
  if (size > static_cast<size_t>(std::numeric_limits<jsize>::max())) {
    throw Failure(LR_FAULT, "2 GB and more do not fit into a Java array");
  }
  const auto length = static_cast<jsize>(size);
  jbyteArray array = checked(env, env->NewByteArray(length));
  if (length > 0) env->SetByteArrayRegion(array, 0, length, static_cast<const jbyte*>(data));
  return array;
}

jbyteArray bytes_of(JNIEnv* env, const char* text) {
  return text != nullptr ? bytes_of(env, text, std::char_traits<char>::length(text)) : nullptr;
}

std::string text_of(JNIEnv* env, jbyteArray bytes) {
  if (bytes == nullptr) throw Failure(LR_USAGE, "a text is null");
  std::string text(static_cast<size_t>(env->GetArrayLength(bytes)), '\0');
  env->GetByteArrayRegion(bytes, 0, static_cast<jsize>(text.size()),
                          reinterpret_cast<jbyte*>(text.data()));
  if (text.find('\0') != std::string::npos) throw Failure(LR_USAGE, "a text holds a zero byte");
  return text;
}

jlongArray shape_of(JNIEnv* env, const int64_t* shape, int rank) {
  jlongArray array = checked(env, env->NewLongArray(rank));
  if (rank > 0) {
    env->SetLongArrayRegion(array, 0, rank, reinterpret_cast<const jlong*>(shape));
  }
  return array;
}

void raise(JNIEnv* env, int status, const char* what) noexcept {
  if (env->ExceptionCheck()) return;  // what a listener threw says more
  try {
    jbyteArray text = bytes_of(env, what);
    auto* error = static_cast<jthrowable>(
        checked(env, env->NewObject(exception_class, exception_new, status, text)));
    env->Throw(error);
  } catch (...) {  // Java is out of memory, which is pending already
  }
}

void must(int status) {
  if (status != LR_OK) throw Failure(status, lr_error());
}

// The body of a native: nothing but a Java exception leaves it.
template <typename Body>
auto guarded(JNIEnv* env, Body&& body) noexcept -> decltype(body()) {
  using Result = decltype(body());
  try {
    return body();
  } catch (const Pending&) {
  } catch (const Failure& error) {
    raise(env, error.status, error.what());
  } catch (const std::bad_alloc&) {
    raise(env, LR_FAULT, "there is not enough memory");
  } catch (const std::exception& error) {
    raise(env, LR_FAULT, error.what());
  } catch (...) {
    raise(env, LR_FAULT, "an unknown error");
  }
  return Result();
}

lr_session* session_of(jlong handle) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a handle crosses JNI as a number
  return reinterpret_cast<lr_session*>(static_cast<intptr_t>(handle));
}

// Where `bytes` of a direct buffer start at `position`.
const uint8_t* place_in(JNIEnv* env, jobject buffer, jlong position, jlong bytes) {
  const void* address = buffer != nullptr ? env->GetDirectBufferAddress(buffer) : nullptr;
  if (address == nullptr) throw Failure(LR_USAGE, "a direct ByteBuffer is needed");
  const jlong capacity = env->GetDirectBufferCapacity(buffer);
  if (position < 0 || bytes < 0 || position > capacity || bytes > capacity - position) {
    throw Failure(LR_USAGE, "the buffer is too small");
  }
  return static_cast<const uint8_t*>(address) + position;
}

jlong open(JNIEnv* env, jclass, jbyteArray bundle, jint threads, jint power) {
  return guarded(env, [&]() -> jlong {
    lr_session* session = nullptr;
    must(lr_open(text_of(env, bundle).c_str(), threads, power, &session));
    return static_cast<jlong>(reinterpret_cast<intptr_t>(session));
  });
}

void close(JNIEnv*, jclass, jlong handle) {
  lr_session* session = session_of(handle);
  lr_close(&session);
}

jbyteArray info(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&] { return bytes_of(env, lr_info(session_of(handle))); });
}

jint count(JNIEnv*, jclass, jlong handle, jint side) { return lr_count(session_of(handle), side); }

// {name, dtype, shape}
jobjectArray spec(JNIEnv* env, jclass, jlong handle, jint side, jint index) {
  return guarded(env, [&] {
    const char* name = nullptr;
    const char* dtype = nullptr;
    const int64_t* shape = nullptr;
    int rank = 0;
    must(lr_spec(session_of(handle), side, index, &name, &dtype, &shape, &rank));
    jobjectArray all = checked(env, env->NewObjectArray(3, object_class, nullptr));
    env->SetObjectArrayElement(all, 0, bytes_of(env, name));
    env->SetObjectArrayElement(all, 1, bytes_of(env, dtype));
    env->SetObjectArrayElement(all, 2, shape_of(env, shape, rank));
    return all;
  });
}

void set_input(JNIEnv* env, jclass, jlong handle, jint index, jbyteArray dtype, jlongArray shape,
               jobject buffer, jint position, jint bytes) {
  guarded(env, [&] {
    if (shape == nullptr) throw Failure(LR_USAGE, "a shape is null");
    std::vector<int64_t> sides(static_cast<size_t>(env->GetArrayLength(shape)));
    env->GetLongArrayRegion(shape, 0, static_cast<jsize>(sides.size()),
                            reinterpret_cast<jlong*>(sides.data()));
    const uint8_t* data = place_in(env, buffer, position, bytes);
    must(lr_set_input(session_of(handle), index, text_of(env, dtype).c_str(), sides.data(),
                      static_cast<int>(sides.size()), data, static_cast<size_t>(bytes)));
  });
}

void set_image(JNIEnv* env, jclass, jlong handle, jobject buffer, jint position, jint width,
               jint height, jint stride, jint channels) {
  guarded(env, [&] {
    if (width < 1 || height < 1 || channels < 1 || stride < 1) {
      throw Failure(LR_USAGE, "a picture has a width, a height and a stride");
    }
    const int64_t bytes = int64_t{height - 1} * stride + int64_t{width} * channels;
    const uint8_t* pixels = place_in(env, buffer, position, bytes);
    must(lr_set_image(session_of(handle), pixels, width, height, stride, channels));
  });
}

void set_file(JNIEnv* env, jclass, jlong handle, jint index, jbyteArray path) {
  guarded(env, [&] { must(lr_set_file(session_of(handle), index, text_of(env, path).c_str())); });
}

void run(JNIEnv* env, jclass, jlong handle) {
  guarded(env, [&] { must(lr_run(session_of(handle))); });
}

int64_t item_bytes(const std::string& dtype) {
  if (dtype == "int64") return 8;
  return dtype == "float32" || dtype == "int32" ? 4 : 1;
}

// {dtype, shape, elements}
jobjectArray output(JNIEnv* env, jclass, jlong handle, jint index) {
  return guarded(env, [&] {
    const void* data = nullptr;
    const char* dtype = nullptr;
    const int64_t* shape = nullptr;
    int rank = 0;
    must(lr_output(session_of(handle), index, &data, &dtype, &shape, &rank));
    int64_t bytes = item_bytes(dtype);
    for (int i = 0; i < rank; ++i) bytes *= shape[i];
    jobjectArray all = checked(env, env->NewObjectArray(3, object_class, nullptr));
    env->SetObjectArrayElement(all, 0, bytes_of(env, dtype));
    env->SetObjectArrayElement(all, 1, shape_of(env, shape, rank));
    env->SetObjectArrayElement(all, 2, bytes_of(env, data, static_cast<size_t>(bytes)));
    return all;
  });
}

jbyteArray label(JNIEnv* env, jclass, jlong handle, jlong class_number) {
  return guarded(env, [&] { return bytes_of(env, lr_label(session_of(handle), class_number)); });
}

void record(JNIEnv* env, jclass, jlong handle, jbyteArray id, jlong class_number, jint warmup,
            jint repeat) {
  guarded(env, [&] {
    must(lr_record(session_of(handle), text_of(env, id).c_str(), class_number, warmup, repeat));
  });
}

// `path` may be null: the bundle's own samples. So may `listener`.
void record_samples(JNIEnv* env, jclass, jlong handle, jbyteArray path, jint warmup, jint repeat,
                    jobject listener) {
  guarded(env, [&] {
    struct Call {
      JNIEnv* env;
      jobject listener;
    } call{env, listener};
    const lr_progress progress = [](void* user, const char*, int done, int total) {
      const auto& the_call = *static_cast<Call*>(user);
      const bool goes_on = the_call.env->CallBooleanMethod(the_call.listener, progress_done, done,
                                                           total) == JNI_TRUE;
      // What the listener threw stays pending until this native returns.
      return the_call.env->ExceptionCheck() || !goes_on ? 1 : 0;
    };
    const std::string text = path != nullptr ? text_of(env, path) : "";
    must(lr_record_samples(session_of(handle), path != nullptr ? text.c_str() : nullptr, warmup,
                           repeat, listener != nullptr ? progress : nullptr, &call));
  });
}

void forget(JNIEnv*, jclass, jlong handle) { lr_forget(session_of(handle)); }

// {report}, or {report, failures} where the answers are not within the limits.
jobjectArray check(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&] {
    const char* report = nullptr;
    const int status = lr_check(session_of(handle), &report);
    if (status != LR_OK && status != LR_FAILED) must(status);
    jobjectArray all =
        checked(env, env->NewObjectArray(status == LR_OK ? 1 : 2, object_class, nullptr));
    if (status == LR_FAILED) env->SetObjectArrayElement(all, 1, bytes_of(env, lr_error()));
    env->SetObjectArrayElement(all, 0, bytes_of(env, report));
    return all;
  });
}

jbyteArray summary(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&] {
    const char* text = nullptr;
    must(lr_summary(session_of(handle), &text));
    return bytes_of(env, text);
  });
}

void save_run(JNIEnv* env, jclass, jlong handle, jbyteArray path, jboolean force) {
  guarded(env, [&] {
    must(lr_save_run(session_of(handle), text_of(env, path).c_str(), force == JNI_TRUE ? 1 : 0));
  });
}

template <typename Function>
JNINativeMethod native(const char* name, const char* signature, Function* function) {
  // JNI of old declares these fields without const.
  return {const_cast<char*>(name), const_cast<char*>(signature), reinterpret_cast<void*>(function)};
}

jclass global_class(JNIEnv* env, const char* name) {
  jclass local = checked(env, env->FindClass(name));
  auto* global = static_cast<jclass>(checked(env, env->NewGlobalRef(local)));
  env->DeleteLocalRef(local);
  return global;
}

}  // namespace

extern "C" JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* vm, void*) {
  JNIEnv* env = nullptr;
  if (vm->GetEnv(reinterpret_cast<void**>(&env), JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
  const JNINativeMethod natives[] = {
      native("nativeOpen", "([BII)J", open),
      native("nativeClose", "(J)V", close),
      native("nativeInfo", "(J)[B", info),
      native("nativeCount", "(JI)I", count),
      native("nativeSpec", "(JII)[Ljava/lang/Object;", spec),
      native("nativeSetInput", "(JI[B[JLjava/nio/ByteBuffer;II)V", set_input),
      native("nativeSetImage", "(JLjava/nio/ByteBuffer;IIIII)V", set_image),
      native("nativeSetFile", "(JI[B)V", set_file),
      native("nativeRun", "(J)V", run),
      native("nativeOutput", "(JI)[Ljava/lang/Object;", output),
      native("nativeLabel", "(JJ)[B", label),
      native("nativeRecord", "(J[BJII)V", record),
      native("nativeRecordSamples", "(J[BIILpaddle/edge/runner/LiteRunner$Progress;)V",
             record_samples),
      native("nativeForget", "(J)V", forget),
      native("nativeCheck", "(J)[Ljava/lang/Object;", check),
      native("nativeSummary", "(J)[B", summary),
      native("nativeSaveRun", "(J[BZ)V", save_run),
  };
  try {
    exception_class = global_class(env, kException);
    exception_new = checked(env, env->GetMethodID(exception_class, "<init>", "(I[B)V"));
    object_class = global_class(env, "java/lang/Object");
    jclass progress = checked(env, env->FindClass(kProgress));
    progress_done = checked(env, env->GetMethodID(progress, "done", "(II)Z"));
    jclass runner = checked(env, env->FindClass(kRunner));
    if (env->RegisterNatives(runner, natives, sizeof natives / sizeof natives[0]) != JNI_OK) {
      return JNI_ERR;
    }
  } catch (const Pending&) {  // System.loadLibrary throws it
    return JNI_ERR;
  }
  return JNI_VERSION_1_6;
}
