package paddle.edge.demo;

import android.app.Application;
import android.content.pm.PackageManager;
import android.content.res.AssetManager;
import android.os.Handler;
import android.os.Looper;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import paddle.edge.demo.work.Shelf;
import paddle.edge.demo.work.Workbench;

/** What lives as long as the process: the workbench, and the threads. */
public final class App extends Application {
  private static final String BUNDLES = "bundles";

  private final ExecutorService pictures = Executors.newSingleThreadExecutor();
  private final Handler drawing = new Handler(Looper.getMainLooper());
  private Workbench bench;

  /** The folder of Runs and their archives. */
  File runs() {
    return new File(getFilesDir(), "runs");
  }

  /** Where pictures are decoded for the screen, aside from the work. */
  Executor pictures() {
    return pictures;
  }

  /**
   * The workbench; the first call of a process makes it.
   *
   * @param saved what an earlier process left of its screen, or null
   */
  Workbench bench(String saved) {
    if (bench == null) {
      Shelf shelf = new Shelf(new File(getFilesDir(), BUNDLES));
      ExecutorService worker = Executors.newSingleThreadExecutor();
      bench = new Workbench(shelf, runs(), worker, drawing::post, saved);
      bench.fill(new PackagedFiles(getAssets()), BUNDLES, String.valueOf(installed()));
    }
    return bench;
  }

  @Override
  public void onTrimMemory(int level) {
    super.onTrimMemory(level);
    if (bench != null && level >= TRIM_MEMORY_BACKGROUND) {
      bench.close(); // the next task opens the model again
    }
  }

  private long installed() {
    try {
      return getPackageManager().getPackageInfo(getPackageName(), 0).lastUpdateTime;
    } catch (PackageManager.NameNotFoundException error) {
      throw new AssertionError("a running app is installed", error);
    }
  }

  private static final class PackagedFiles implements Shelf.Assets {
    private final AssetManager assets;

    PackagedFiles(AssetManager assets) {
      this.assets = assets;
    }

    @Override
    public String[] list(String path) throws IOException {
      String[] names = assets.list(path);
      return names != null ? names : new String[0];
    }

    @Override
    public InputStream open(String path) throws IOException {
      return assets.open(path);
    }
  }
}
