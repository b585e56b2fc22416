"""The scores of a results folder as TensorBoard event files: a view, as the report is.

::

    tensorboard/cells/events...          the columns of the table
    tensorboard/cells/<cell>/events...   a life: its arm and task, and its metrics
    tensorboard/arms/events...           the layout of the panels
    tensorboard/arms/<arm>/events...     return over the life, mean over seeds

``tensorboard --logdir <folder>/tensorboard/cells``, tab HPARAMS: lives, grouped by task, agent and
arm, sortable by S, P and the rest. ``.../arms``, tab CUSTOM SCALARS: one panel a task with all arms
in it. They are two folders because TensorBoard selects no run at all where there are more than 40.
The event files of the cells themselves stay as the bench left them. The same folder gives the same
bytes: no file holds a time.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rlplastic.metrics.study import NEWBORN, Study
from rlplastic.metrics.summary import Summary
from rlplastic.record import Record
from rlplastic.store import digest

NAME = "events.out.tfevents.0.rlplastic"
METRICS = (
    "S",
    "P",
    "drop",
    "recovered_80",
    "recovery_time_80",
    "end_gap",
    "collapsed",
    "phase_0",
    "whole_run_mean",
)
EACH = 10  # points of a phase


def event_files(study: Study, summaries: Iterable[Summary]) -> dict[str, bytes]:
    """Every event file, by its path below ``tensorboard/``."""
    summaries = list(summaries)
    files = {f"cells/{NAME}": _file([_experiment()]), f"arms/{NAME}": _file([_layout(summaries)])}
    for record in study.results.learners:
        if record.header and not record.fresh:
            name = "__".join(_name(str(part)) for part in record.slot)
            files[f"cells/{name}/{NAME}"] = _file(_session(study, record))
    arms: dict[str, list[tuple[int, Any]]] = {}
    for summary in summaries:
        for arm, points in _arms(study, summary).items():
            arms.setdefault(arm, []).extend(points)
    for arm, points in arms.items():
        files[f"arms/{_name(arm)}/{NAME}"] = _file(points)
    return files


def _name(text: str) -> str:
    """A text as a folder; the start of its digest keeps apart what would look the same."""
    safe = re.sub(r"[^A-Za-z0-9=.+_-]", "_", text)[:60]
    return safe if safe == text and safe.strip(".") else f"{safe}-{digest(text)[:6]}"


# -- hparams -----------------------------------------------------------------------------------


def _experiment() -> tuple[int, Any]:
    """Columns: what tells lives apart, and their metrics."""
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    columns = [
        api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_STRING)
        for name in ("task", "agent", "arm")
    ]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=name), display_name=name) for name in METRICS
    ]
    experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=metrics)
    data = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    return 0, _hparams(metadata.EXPERIMENT_TAG, data)


def _session(study: Study, record: Record) -> list[tuple[int, Any]]:
    """One life; lives of other seeds are of the same group, of which TensorBoard shows the mean."""
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    task, agent, arm, _ = record.slot
    start = plugin_data_pb2.SessionStartInfo(group_name=f"{task} {agent} {arm}")
    for key, text in (("task", task), ("agent", agent), ("arm", arm)):
        start.hparams[key].string_value = text
    statuses = {"done": api_pb2.STATUS_SUCCESS, "unfinished": api_pb2.STATUS_RUNNING}
    end = plugin_data_pb2.SessionEndInfo(status=statuses.get(record.status, api_pb2.STATUS_FAILURE))
    data = plugin_data_pb2.HParamsPluginData
    summaries = [(0, _hparams(metadata.SESSION_START_INFO_TAG, data(session_start_info=start)))]
    for metric in METRICS:
        value = study.reduced(metric, *record.slot)
        if np.isfinite(value):
            summaries.append((0, _scalar(metric, value)))
    summaries.append((0, _hparams(metadata.SESSION_END_INFO_TAG, data(session_end_info=end))))
    return summaries


def _hparams(tag: str, data: Any) -> Any:
    from tensorboard.plugins.hparams import metadata

    data.version = metadata.PLUGIN_DATA_VERSION
    content = data.SerializeToString(deterministic=True)
    return _value(tag, metadata.PLUGIN_NAME, content, dtype="DT_FLOAT")


# -- arms --------------------------------------------------------------------------------------


def _tag(agent: str, task: str) -> str:
    return f"{agent}/{task}/return"


def _layout(summaries: Iterable[Summary]) -> tuple[int, Any]:
    """One panel a task; each arm is a run, so that it has one colour and can be switched off."""
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    categories = []
    for summary in summaries:
        charts = []
        for task in summary.all_tasks:
            tag = f"^{re.escape(_tag(summary.agent, task))}$"
            lines = layout_pb2.MultilineChartContent(tag=[tag])
            charts.append(layout_pb2.Chart(title=task, multiline=lines))
        categories.append(layout_pb2.Category(title=summary.agent, chart=charts))
    content = layout_pb2.Layout(category=categories).SerializeToString(deterministic=True)
    tag, plugin = metadata.CONFIG_SUMMARY_TAG, metadata.PLUGIN_NAME
    return 0, _value(tag, plugin, b"", dtype="DT_STRING", string_val=[content])


def _arms(study: Study, summary: Summary) -> Mapping[str, list[tuple[int, Any]]]:
    """(step, return) of each arm and of its newborns, mean over the seeds that have the phase."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for arm in summary.arms:
        for label in (arm.reg, arm.reg + NEWBORN):
            for task in summary.all_tasks:
                points = _curve(study, summary, task, label)
                tag = _tag(summary.agent, task)
                found.setdefault(label, []).extend((step, _scalar(tag, v)) for step, v in points)
    return {label: points for label, points in found.items() if points}


def _curve(study: Study, summary: Summary, task: str, arm: str) -> list[tuple[int, float]]:
    cases = [study.case(task, summary.agent, arm, seed).life for seed in summary.planned]
    points = []
    for phase in range(int(arm.endswith(NEWBORN)), study.num_phases):
        closed = [curve for life in cases if (curve := life[phase]) is not None]
        for at in (np.arange(EACH) + 0.5) / EACH if closed else ():
            value = np.mean([curve.at(at * curve.steps) for curve in closed])
            points.append((int(closed[0].begin + at * closed[0].steps), float(value)))
    return points


def _value(tag: str, plugin: str, content: bytes, *, dtype: str, **tensor: Any) -> Any:
    """A value that a plugin reads: its content, or a tensor."""
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

    mark = summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    shape = tensor_shape_pb2.TensorShapeProto()
    proto = tensor_pb2.TensorProto(
        dtype=types_pb2.DataType.Value(dtype), tensor_shape=shape, **tensor
    )
    metadata = summary_pb2.SummaryMetadata(plugin_data=mark)
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=proto)


def _scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto import summary_pb2

    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


# -- values and files -------------------------------------------------------------------------


def _file(values: Iterable[tuple[int, Any]]) -> bytes:
    """An event file with one event for each (step, summary value)."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(event_pb2.Event(file_version="brain.Event:2").SerializeToString())
    for step, value in values:
        event = event_pb2.Event(step=step, summary=summary_pb2.Summary(value=[value]))
        writer.write(event.SerializeToString(deterministic=True))
    return buffer.getvalue()
