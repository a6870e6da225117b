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
  private ImageReader reader; // made with each opening: a callback to another one is of the past
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
    if (reader != null) {
      return; // the user came back with the permission: onStart was before its result
    }
    trouble = null;
    CameraManager manager = (CameraManager) getSystemService(CAMERA_SERVICE);
    try {
      String id = choose(manager);
      if (id == null) {
        fail(getString(R.string.no_camera));
        return;
      }
      manager.openCamera(id, new Opened(reader), null);
    } catch (CameraAccessException error) {
      fail(error.getReason());
    } catch (SecurityException error) {
      fail(getString(R.string.camera_refused));
    }
  }

  // The camera on the back, or else any; makes the reader of its frames.
  private String choose(CameraManager manager) throws CameraAccessException {
    String chosen = null;
    CameraCharacteristics its = null;
    for (String id : manager.getCameraIdList()) {
      CameraCharacteristics about = manager.getCameraCharacteristics(id);
      Integer facing = about.get(CameraCharacteristics.LENS_FACING);
      boolean back = facing != null && facing == CameraCharacteristics.LENS_FACING_BACK;
      if (about.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP) != null
          && (chosen == null || back)) {
        chosen = id;
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
    int[] size = sides[Frame.fitting(sides, SHORT_SIDE)];
    Integer turned = its.get(CameraCharacteristics.SENSOR_ORIENTATION);
    Integer facing = its.get(CameraCharacteristics.LENS_FACING);
    sensor = turned != null ? turned : 0;
    facesUser = facing != null && facing == CameraCharacteristics.LENS_FACING_FRONT;
    reader = ImageReader.newInstance(size[0], size[1], ImageFormat.YUV_420_888, 2);
    reader.setOnImageAvailableListener(this::take, new Handler(thread.getLooper()));
    return chosen;
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
    // After the frame that is being read: its memory is the reader's.
    ImageReader closing = reader;
    if (closing != null) {
      new Handler(thread.getLooper()).post(closing::close);
      reader = null;
    }
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

  /** What the camera says; of the past where the user has left meanwhile, even if to come back. */
  private final class Opened extends CameraDevice.StateCallback {
    private final ImageReader frames;

    Opened(ImageReader frames) {
      this.frames = frames;
    }

    @Override
    public void onOpened(CameraDevice device) {
      if (reader != frames) {
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
      if (reader == frames) {
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
