"""Makes of Beam's jar for Flink what lies on the cluster's class path, and what is sent with a job."""

from __future__ import annotations

import sys
import zipfile

OF_FLINK = (
    "org/apache/flink/",
    "org/slf4j/",
    "META-INF/services/org.apache.flink",
    "META-INF/services/org.slf4j",
    "META-INF/maven/",
    "flink-rpc-akka",
)
"""What the cluster has itself; a second one in another version would be found first."""


OF_A_JOB = (
    "org/apache/beam/runners/flink/FlinkPipelineRunner",
    "org/apache/beam/runners/flink/FlinkPortableRunnerResult",
    "org/apache/beam/runners/jobsubmission/PortablePipelineJarUtils",
)
"""What finds a job's own files in the jar from which it was itself loaded, and its companions."""


def keeps(name: str) -> bool:
    """Whether a file of Beam's jar goes to the class path of the cluster."""
    if name.startswith(OF_FLINK + OF_A_JOB):
        return False
    return ".flink-" not in name and name not in ("reference.conf", "log4j.properties")


def main(whole: str, classes: str, submitted: str) -> None:
    """Writes both jars.

    Args:
        whole: Beam's runner for Flink with all that it needs.
        classes: The jar for the class path.
        submitted: The jar that is sent with a job, to which the job's own files are added.
    """
    with zipfile.ZipFile(whole) as read:
        with zipfile.ZipFile(classes, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as write:
            for entry in read.infolist():
                if not entry.is_dir() and keeps(entry.filename):
                    write.writestr(entry, read.read(entry.filename))
        with zipfile.ZipFile(submitted, "w", zipfile.ZIP_DEFLATED) as write:
            for entry in read.infolist():
                if entry.filename.startswith(OF_A_JOB):
                    write.writestr(entry, read.read(entry.filename))


if __name__ == "__main__":
    main(*sys.argv[1:])
