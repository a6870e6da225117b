package paddle.edge.demo;

import android.app.Activity;
import android.app.AlertDialog;
import android.content.ActivityNotFoundException;
import android.content.ClipData;
import android.content.ContentResolver;
import android.content.Intent;
import android.graphics.Bitmap;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.view.View;
import android.view.ViewGroup;
import android.widget.AdapterView;
import android.widget.ArrayAdapter;
import android.widget.ImageView;
import android.widget.ProgressBar;
import android.widget.Spinner;
import android.widget.TextView;
import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import paddle.edge.demo.work.Screen;
import paddle.edge.demo.work.Workbench;
import paddle.edge.runner.PowerMode;

/**
 * The one screen: draws a {@link Screen}, and hands what the user wants to the workbench.
 */
public final class MainActivity extends Activity {
  /** An intent's extra: "check" or "benchmark" is started as by its button. */
  static final String TASK = "task";

  // MediaStore.ACTION_PICK_IMAGES, of Android 13.
  private static final String PICK_IMAGES = "android.provider.action.PICK_IMAGES";
  private static final String SAVED = "screen";
  private static final int PICTURE = 1;
  private static final int BUNDLE = 2;
  private static final int MOST_THREADS = 8;

  private final Workbench.Listener listener = this::draw;
  private Workbench bench;
  private Screen shown;
  private String picture;
  private Spinner bundles;
  private Spinner threads;
  private Spinner power;

  @Override
  protected void onCreate(Bundle saved) {
    super.onCreate(saved);
    bench = ((App) getApplication()).bench(saved != null ? saved.getString(SAVED) : null);
    setContentView(R.layout.main);
    bundles = (Spinner) findViewById(R.id.bundle);
    threads = (Spinner) findViewById(R.id.threads);
    power = (Spinner) findViewById(R.id.power);
    List<String> counts = new ArrayList<>();
    int most = Math.min(MOST_THREADS, Runtime.getRuntime().availableProcessors());
    for (int count = 1; count <= most; count++) {
      counts.add(getResources().getQuantityString(R.plurals.thread_count, count, count));
    }
    fill(threads, counts);
    fill(power, Arrays.asList(getResources().getStringArray(R.array.power_modes)));
    AdapterView.OnItemSelectedListener chosen = new Chosen();
    for (Spinner spinner : new Spinner[] {bundles, threads, power}) {
      spinner.setOnItemSelectedListener(chosen);
    }
    click(R.id.pick, this::pick);
    click(R.id.camera, () -> startActivity(new Intent(this, CameraActivity.class)));
    click(R.id.check, bench::check);
    click(R.id.measure, this::measure);
    click(R.id.add, this::add);
    click(R.id.remove, this::remove);
    click(R.id.share, this::share);
    click(R.id.cancel, bench::cancel);
    if (saved == null) {
      start(getIntent().getStringExtra(TASK));
    }
  }

  @Override
  protected void onNewIntent(Intent intent) {
    super.onNewIntent(intent);
    start(intent.getStringExtra(TASK));
  }

  @Override
  protected void onStart() {
    super.onStart();
    bench.attach(listener);
  }

  @Override
  protected void onStop() {
    bench.detach(listener);
    super.onStop();
  }

  @Override
  protected void onSaveInstanceState(Bundle state) {
    super.onSaveInstanceState(state);
    state.putString(SAVED, bench.screen().save());
  }

  @Override
  protected void onActivityResult(int request, int result, Intent data) {
    super.onActivityResult(request, result, data);
    Uri address = result == RESULT_OK && data != null ? data.getData() : null;
    if (address == null) {
      return;
    }
    ContentResolver resolver = getApplicationContext().getContentResolver();
    if (request == BUNDLE) {
      bench.whenIdle(() -> bench.add(() -> PictureFile.open(resolver, address)));
      return;
    }
    File file = PictureFile.place(getCacheDir());
    Workbench.Reader reader =
        () -> {
          PictureFile.copy(resolver, address, file);
          return PictureFile.read(file);
        };
    bench.whenIdle(() -> bench.classify(file.getPath(), reader));
  }

  private void draw(Screen screen) {
    final boolean idle = screen.task == Screen.Task.NONE;
    final boolean ready = idle && screen.bundle != null;
    shown = screen;
    if (!screen.bundles.equals(items(bundles))) {
      fill(bundles, screen.bundles);
    }
    bundles.setSelection(Math.max(0, screen.bundles.indexOf(screen.bundle)));
    threads.setSelection(Math.min(screen.threads, threads.getCount()) - 1);
    power.setSelection(screen.power.ordinal());
    for (Spinner spinner : new Spinner[] {bundles, threads, power}) {
      spinner.setEnabled(idle);
    }
    for (int id : new int[] {R.id.pick, R.id.camera, R.id.check, R.id.measure, R.id.remove}) {
      findViewById(id).setEnabled(ready);
    }
    findViewById(R.id.add).setEnabled(idle);
    findViewById(R.id.share).setEnabled(idle && screen.run != null);
    findViewById(R.id.busy).setVisibility(idle ? View.GONE : View.VISIBLE);
    findViewById(R.id.cancel)
        .setVisibility(screen.task == Screen.Task.CHECKING ? View.VISIBLE : View.GONE);
    ProgressBar progress = (ProgressBar) findViewById(R.id.progress);
    progress.setIndeterminate(screen.total == 0);
    progress.setMax(screen.total);
    progress.setProgress(screen.done);
    text(R.id.status, Rows.status(this, screen));
    text(R.id.verdict, screen.verdict != null ? screen.verdict : "");
    Rows.show((ViewGroup) findViewById(R.id.rows), screen.rows);
    if (idle) {
      show(screen.picture);
    }
  }

  private void start(String task) {
    if ("check".equals(task)) {
      bench.whenIdle(bench::check);
    } else if ("benchmark".equals(task)) {
      bench.whenIdle(this::measure);
    }
  }

  private void measure() {
    bench.measure(Workbench.WARMUP, Workbench.REPEAT);
  }

  private void show(String path) {
    if (path == null ? picture == null : path.equals(picture)) {
      return;
    }
    picture = path;
    if (path == null) { // a camera's
      show(null, null);
      return;
    }
    int width = getResources().getDisplayMetrics().widthPixels;
    ((App) getApplication())
        .pictures()
        .execute(
            () -> {
              try {
                Bitmap bitmap = PictureFile.show(new File(path), width);
                runOnUiThread(() -> show(path, bitmap));
              } catch (IOException | RuntimeException | Error error) {
                // What is wrong with it was said when it was to be classified.
                runOnUiThread(() -> show(path, null));
              }
            });
  }

  private void show(String path, Bitmap bitmap) {
    if (path != null && !path.equals(picture)) {
      return; // another one was chosen meanwhile
    }
    ImageView view = (ImageView) findViewById(R.id.picture);
    view.setImageBitmap(bitmap);
    view.setContentDescription(
        getString(bitmap != null ? R.string.picture : R.string.no_picture));
  }

  private void pick() {
    Intent picker = new Intent(PICK_IMAGES);
    boolean has =
        Build.VERSION.SDK_INT >= 33 && picker.resolveActivity(getPackageManager()) != null;
    if (!has) {
      picker = new Intent(Intent.ACTION_GET_CONTENT).addCategory(Intent.CATEGORY_OPENABLE);
    }
    ask(picker.setType("image/*"), PICTURE);
  }

  private void add() {
    String[] types = {RunProvider.TYPE, "application/x-zip-compressed", "application/octet-stream"};
    Intent picker =
        new Intent(Intent.ACTION_OPEN_DOCUMENT)
            .addCategory(Intent.CATEGORY_OPENABLE)
            .setType("*/*")
            .putExtra(Intent.EXTRA_MIME_TYPES, types);
    ask(picker, BUNDLE);
  }

  private void remove() {
    if (shown == null || shown.bundle == null) {
      return;
    }
    new AlertDialog.Builder(this)
        .setMessage(getString(R.string.remove_bundle, shown.bundle))
        .setPositiveButton(R.string.remove, (dialog, button) -> bench.remove())
        .setNegativeButton(android.R.string.cancel, null)
        .show();
  }

  private void ask(Intent intent, int request) {
    try {
      startActivityForResult(intent, request);
    } catch (ActivityNotFoundException error) {
      bench.complain(getString(R.string.no_app));
    }
  }

  private void share() {
    if (shown == null || shown.run == null) {
      return;
    }
    Uri address = RunProvider.address(this, new File(shown.run));
    Intent send =
        new Intent(Intent.ACTION_SEND)
            .setType(RunProvider.TYPE)
            .putExtra(Intent.EXTRA_STREAM, address)
            .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION);
    send.setClipData(ClipData.newRawUri("", address)); // what the permission goes along with
    startActivity(Intent.createChooser(send, getString(R.string.share)));
  }

  private void click(int id, Runnable action) {
    findViewById(id).setOnClickListener(view -> action.run());
  }

  private void text(int id, String text) {
    TextView view = (TextView) findViewById(id);
    if (!text.contentEquals(view.getText())) { // or else it would be read aloud again
      view.setText(text);
    }
  }

  private void fill(Spinner spinner, List<String> items) {
    ArrayAdapter<String> adapter =
        new ArrayAdapter<>(this, android.R.layout.simple_spinner_item, items);
    adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item);
    spinner.setAdapter(adapter);
  }

  private static List<String> items(Spinner spinner) {
    if (spinner.getAdapter() == null) {
      return Collections.singletonList(null);
    }
    List<String> items = new ArrayList<>();
    for (int i = 0; i < spinner.getCount(); i++) {
      items.add((String) spinner.getItemAtPosition(i));
    }
    return items;
  }

  /** Spinners also say what the program chose: only what differs is a wish of the user. */
  private final class Chosen implements AdapterView.OnItemSelectedListener {
    @Override
    public void onItemSelected(AdapterView<?> parent, View view, int position, long id) {
      if (shown == null || shown.task != Screen.Task.NONE || shown.bundle == null) {
        return;
      }
      String bundle = (String) bundles.getSelectedItem();
      int count = threads.getSelectedItemPosition() + 1;
      PowerMode mode = PowerMode.values()[power.getSelectedItemPosition()];
      if (!shown.bundle.equals(bundle) || shown.threads != count || shown.power != mode) {
        bench.choose(bundle, count, mode);
      }
    }

    @Override
    public void onNothingSelected(AdapterView<?> parent) {
      // There is nothing to choose.
    }
  }
}
