"""EasyOCR's Reader of English, whose two networks' MD5 it compares."""

from __future__ import annotations

import cv2
import easyocr
import numpy
import torch
from easyocr import config
from easyocr.craft import CRAFT
from easyocr.imgproc import normalizeMeanVariance
from easyocr.model.vgg_model import Model

from tests.caches.libraries.programs.files import digest, made
from tests.caches.libraries.programs.weights import weights

_ENGLISH = config.recognition_models["gen2"]["english_g2"]


def make(seed: int) -> str:
    detector = made("~/.EasyOCR/model/craft_mlt_25k.pth")
    recogniser = made(f"~/.EasyOCR/model/{_ENGLISH['filename']}")
    with torch.device("meta"):
        networks = {detector: CRAFT(), recogniser: Model(1, 256, 256, len(_ENGLISH["characters"]) + 1)}
    states = {path: weights(network, seed) for path, network in networks.items()}
    states[recogniser]["Prediction.weight"] *= 20  # else all letters are as likely
    for path, state in states.items():  # as they come: saved from a DataParallel
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    return " ".join(digest(path, "md5") for path in networks)


def predict(md5s: str) -> object:
    config.detection_models["craft"]["md5sum"], _ENGLISH["md5sum"] = md5s.split()
    reader = easyocr.Reader(["en"], gpu=False, verbose=False)
    picture = numpy.full((64, 160, 3), 255, numpy.uint8)
    cv2.putText(picture, "diskless", (8, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
    # With these weights no score is near one: text is where it is above the mean.
    with torch.no_grad():
        scores, _ = reader.detector(torch.tensor(normalizeMeanVariance(picture)).permute(2, 0, 1)[None])
    mean = float(scores[..., 0].mean())
    words = reader.readtext(picture, text_threshold=mean, low_text=mean, link_threshold=100)
    return [mean, repr(words)]
