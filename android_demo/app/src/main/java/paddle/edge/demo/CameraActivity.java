package paddle.edge.demo;

import android.Manifest;
import android.app.Activity;
import android.content.pm.PackageManager;
import android.graphics.ImageFormat;
import android.hardware.camera2.CameraAccessException;
import android.hardware.camera2.CameraCaptureSession;
import android.hardware.camera2.CameraCharacteristics;
import android.hardware.camera2.CameraDevice;
import android.hardware.camera2.CameraManager;
import android.hardware.camera2.CaptureRequest;
import android.hardware.camera2.params.StreamConfigurationMap;
import android.media.Image;
import android.media.ImageReader;
import android.os.Build;
import android.os.Bundle;
import android.os.Handler;
import android.os.HandlerThread;
import android.util.Size;
import android.view.Surface;
import android.view.ViewGroup;
import android.widget.ImageView;
import android.widget.TextView;
import java.util.Collections;
import paddle.edge.demo.work.Attempt;
import paddle.edge.demo.work.Frame;
import paddle.edge.demo.work.Picture;
import paddle.edge.demo.work.Screen;
import paddle.edge.demo.work.Workbench;

/**
 * Shows and classifies what the camera sees. The very pixels that are classified are what is drawn,
 * so what the screen shows upright is upright for the model as well. While one frame is classified,
 * others are only drawn.
 */
public final class CameraActivity extends Activity {
  private static final String SAVED = "screen";
  private static final int SHORT_SIDE = 480;
  private static final int PERMISSION = 1;

  private final Workbench.Listener listener = this::draw;
  private Workbench bench;
  private HandlerThread thread; // frames become pixels there; null while the screen is not seen
  private CameraDevice camera;
  // A reader is made with each opening: a callback to another one is of the past.
  private final Attempt<ImageReader, CameraAccessException> reader = new Attempt<>(new Steps());
  private String id; // of the camera
  private String trouble; // why there is no picture; null where there is one, or will be
  private boolean asked;
  private volatile int sensor;
  private volatile boolean facesUser;
  private volatile boolean drawing;

  @Override
  protected void onCreate(Bundle saved) {
    super.onCreate(saved);
    setContentView(R.layout.camera);
    bench = ((App) getApplication()).bench(saved != null ? saved.getString(SAVED) : null);
    asked = saved != null;
  }

  @Override
  protected void onSaveInstanceState(Bundle state) {
    super.onSaveInstanceState(state);
    state.putString(SAVED, bench.screen().save());
  }

  @Override
  protected void onStart() {
    super.onStart();
    bench.attach(listener);
    thread = new HandlerThread("camera");
    thread.start();
    if (allowed()) {
      open();
    } else if (!asked && Build.VERSION.SDK_INT >= 23) {
      asked = true;
      requestPermissions(new String[] {Manifest.permission.CAMERA}, PERMISSION);
    } else {
      fail(getString(R.string.camera_refused));
    }
  }

  @Override
  protected void onStop() {
    bench.detach(listener);
    close();
    super.onStop();
  }

  @Override
  public void onRequestPermissionsResult(int request, String[] permissions, int[] results) {
    if (thread == null) {
      return; // the user has left meanwhile
    }
    if (allowed()) {
      open();
    } else {
      fail(getString(R.string.camera_refused));
    }
  }

  private boolean allowed() {
    return Build.VERSION.SDK_INT < 23
        || checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED;
  }

  private void open() {
    if (reader.held() != null) {
      return; // the user came back with the permission: onStart was before its result
    }
    trouble = null;
    try {
      if (!reader.open()) {
        fail(getString(R.string.no_camera));
      }
    } catch (CameraAccessException error) {
      fail(error.getReason());
    } catch (SecurityException error) {
      fail(getString(R.string.camera_refused));
    } catch (IllegalArgumentException error) { // it was unplugged meanwhile
      fail(CameraAccessException.CAMERA_DISCONNECTED);
    }
  }

  private CameraManager manager() {
    return (CameraManager) getSystemService(CAMERA_SERVICE);
  }

  // Chooses the camera on the back, or else any; makes the reader of its frames.
  private ImageReader choose() throws CameraAccessException {
    final CameraManager manager = manager();
    String chosen = null;
    CameraCharacteristics its = null;
    for (String any : manager.getCameraIdList()) {
      CameraCharacteristics about = manager.getCameraCharacteristics(any);
      Integer facing = about.get(CameraCharacteristics.LENS_FACING);
      boolean back = facing != null && facing == CameraCharacteristics.LENS_FACING_BACK;
      if (about.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP) != null
          && (chosen == null || back)) {
        chosen = any;
        its = about;
        if (back) {
          break;
        }
      }
    }
    if (chosen == null) {
      return null;
    }
    StreamConfigurationMap map = its.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP);
    Size[] sizes = map.getOutputSizes(ImageFormat.YUV_420_888);
    if (sizes == null || sizes.length == 0) {
      return null;
    }
    int[][] sides = new int[sizes.length][];
    for (int i = 0; i < sizes.length; i++) {
      sides[i] = new int[] {sizes[i].getWidth(), sizes[i].getHeight()};
    }
    final int[] size = sides[Frame.fitting(sides, SHORT_SIDE)];
    Integer turned = its.get(CameraCharacteristics.SENSOR_ORIENTATION);
    Integer facing = its.get(CameraCharacteristics.LENS_FACING);
    sensor = turned != null ? turned : 0;
    facesUser = facing != null && facing == CameraCharacteristics.LENS_FACING_FRONT;
    id = chosen;
    ImageReader frames = ImageReader.newInstance(size[0], size[1], ImageFormat.YUV_420_888, 2);
    frames.setOnImageAvailableListener(this::take, new Handler(thread.getLooper()));
    return frames;
  }

  // On the camera's thread.
  private void take(ImageReader source) {
    Picture picture;
    try (Image image = source.acquireLatestImage()) {
      if (image == null || drawing) {
        return;
      }
      Image.Plane[] planes = image.getPlanes();
      Frame frame =
          new Frame(
              image.getWidth(),
              image.getHeight(),
              plane(planes[0]),
              plane(planes[1]),
              plane(planes[2]));
      // Each time: Android says nothing when a screen is turned upside down.
      int display = 90 * getWindowManager().getDefaultDisplay().getRotation();
      picture = frame.picture().upright(Frame.orientation(sensor, display, facesUser));
    } catch (IllegalStateException error) {
      return; // the reader was closed meanwhile
    }
    drawing = true;
    runOnUiThread(
        () -> {
          ((ImageView) findViewById(R.id.picture)).setImageBitmap(PictureFile.bitmap(picture));
          drawing = false;
        });
    bench.classify(null, () -> picture); // false while it is busy with an earlier one
  }

  private static Frame.Plane plane(Image.Plane plane) {
    return new Frame.Plane(plane.getBuffer(), plane.getRowStride(), plane.getPixelStride());
  }

  private void close() {
    if (camera != null) {
      camera.close();
      camera = null;
    }
    reader.close();
    thread.quitSafely();
    thread = null;
  }

  private void draw(Screen screen) {
    if (screen.task == Screen.Task.CLASSIFYING) {
      return; // the last answer stays until there is the next
    }
    say(trouble != null ? trouble : Rows.status(this, screen));
    Rows.show((ViewGroup) findViewById(R.id.rows), screen.rows);
  }

  private void fail(int reason) {
    fail(getString(R.string.camera_failed, reason));
  }

  private void fail(String why) {
    trouble = why;
    say(why);
  }

  private void say(String text) {
    ((TextView) findViewById(R.id.status)).setText(text);
  }

  /** The reader of frames, and then the camera. */
  private final class Steps implements Attempt.Steps<ImageReader, CameraAccessException> {
    @Override
    public ImageReader make() throws CameraAccessException {
      return choose();
    }

    @Override
    public void start(ImageReader frames) throws CameraAccessException {
      manager().openCamera(id, new Opened(frames), null);
    }

    @Override
    public void release(ImageReader frames) {
      // After the frame that is being read: its memory is the reader's.
      new Handler(thread.getLooper()).post(frames::close);
    }
  }

  /** What the camera says; of the past where the user has left meanwhile, even if to come back. */
  private final class Opened extends CameraDevice.StateCallback {
    private final ImageReader frames;

    Opened(ImageReader frames) {
      this.frames = frames;
    }

    @Override
    public void onOpened(CameraDevice device) {
      if (reader.held() != frames) {
        device.close();
        return;
      }
      camera = device;
      Surface surface = frames.getSurface();
      try {
        CaptureRequest.Builder request =
            device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW);
        request.addTarget(surface);
        request.set(
            CaptureRequest.CONTROL_AF_MODE, CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE);
        device.createCaptureSession(
            Collections.singletonList(surface), new Running(request.build()), null);
      } catch (CameraAccessException error) {
        fail(error.getReason());
      } catch (IllegalStateException error) {
        fail(CameraAccessException.CAMERA_DISCONNECTED);
      }
    }

    @Override
    public void onDisconnected(CameraDevice device) {
      end(device, CameraAccessException.CAMERA_DISCONNECTED);
    }

    @Override
    public void onError(CameraDevice device, int error) {
      end(device, error);
    }

    private void end(CameraDevice device, int reason) {
      device.close();
      if (reader.held() == frames) {
        camera = null;
        fail(reason);
      }
    }
  }

  /** Asks for frames until the session is closed. */
  private final class Running extends CameraCaptureSession.StateCallback {
    private final CaptureRequest request;

    Running(CaptureRequest request) {
      this.request = request;
    }

    @Override
    public void onConfigured(CameraCaptureSession session) {
      if (session.getDevice() != camera) {
        return; // of the past
      }
      try {
        session.setRepeatingRequest(request, null, null);
      } catch (CameraAccessException error) {
        fail(error.getReason());
      } catch (IllegalStateException error) {
        // The camera was closed meanwhile: nobody looks.
        return;
      }
    }

    @Override
    public void onConfigureFailed(CameraCaptureSession session) {
      if (session.getDevice() == camera) {
        fail(CameraAccessException.CAMERA_ERROR);
      }
    }
  }
}
