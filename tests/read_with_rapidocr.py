"""Read pages with RapidOCR's port of PaddleOCR, set to PaddleOCR's defaults: prints, as JSON, for
each file its lines as [corners, text, score].

    python tests/read_with_rapidocr.py PAGE...

In a process of its own: it warns while it is imported.
"""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
from rapidocr_paddle import RapidOCR


def main() -> None:
    """Stage by stage, without the padding and scaling of pages that RapidOCR adds."""
    ocr = RapidOCR(
        det_limit_type="max",
        det_limit_side_len=960,
        det_thresh=0.3,
        det_box_thresh=0.6,
        det_unclip_ratio=1.5,
        det_use_dilation=False,
    )
    ocr.text_det.mean, ocr.text_det.std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    pages = []
    for file in sys.argv[1:]:
        page = cv2.imread(file)
        boxes, _ = ocr.auto_text_det(page)
        lines, _, _ = ocr.text_cls(ocr.get_crop_img_list(page, boxes))
        read, _ = ocr.text_rec(lines)
        pages.append([[np.asarray(b).tolist(), r[0], float(r[1])] for b, r in zip(boxes, read)])
    print(json.dumps(pages))


if __name__ == "__main__":
    main()
