"""Writes events.json: what TensorBoard's own writer makes of the events of tests/report/tensorboard_test.ts, in base64.
pip install tensorboard==2.21.0 && python tests/golden/tensorboard/make.py"""

import base64
import io
import json
import pathlib

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData
from tensorboard.summary.writer.record_writer import RecordWriter

TEXT = '{"learning_rate": 1e-06, "prompt": "Grüße, 世界"}' + "\n" * 200


def scalar(step, tag, value):
    # torch.utils.tensorboard.summary.scalar
    return {"step": step, "summary": Summary(value=[Summary.Value(tag=tag, simple_value=value)])}


def text(tag, text):
    # torch.utils.tensorboard.summary.text
    plugin = SummaryMetadata.PluginData(
        plugin_name="text", content=TextPluginData(version=0).SerializeToString()
    )
    tensor = TensorProto(
        dtype="DT_STRING",
        string_val=[text.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    value = Summary.Value(
        tag=tag + "/text_summary", metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor
    )
    return {"summary": Summary(value=[value])}


EVENTS = [
    {"file_version": "brain.Event:2"},
    {"session_log": SessionLog(status=SessionLog.START)},
    text("args", TEXT),
    scalar(0, "eval/loss", 0.25),
    scalar(10, "train/rewards/chosen", -1.2345678),
    scalar(128, "train/grad_norm", float("nan")),
    {"step": 5_000_000_000, "session_log": SessionLog(status=SessionLog.START)},
    scalar(5_000_000_000, "train/num_input_tokens_seen", 123456789.0),
]

file = io.BytesIO()
writer = RecordWriter(file)
for i, event in enumerate(EVENTS):
    writer.write(Event(wall_time=1.7e9 + i / 4, **event).SerializeToString())
path = pathlib.Path(__file__).with_name("events.json")
path.write_text(json.dumps({"base64": base64.b64encode(file.getvalue()).decode()}) + "\n")
