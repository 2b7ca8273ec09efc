"""compose.yaml is well-formed, and what it refers to, within itself and beside it, is there."""

import pathlib, sys, yaml

path = pathlib.Path(sys.argv[1])
file = yaml.safe_load(path.read_text())
services = file["services"]
for name, service in services.items():
    if not ("image" in service or "build" in service):
        sys.exit(f"{name} has neither image nor build")
    for other in service.get("depends_on", []):
        if other not in services:
            sys.exit(f"{name} depends on {other}, which is not there")
        condition = service["depends_on"][other]["condition"] if isinstance(service["depends_on"], dict) else ""
        if condition == "service_healthy" and "healthcheck" not in services[other]:
            sys.exit(f"{name} waits for the health of {other}, which has no health check")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            if not (path.parent / source).exists():
                sys.exit(f"{name} mounts {source}, which is not there")
        elif source not in file.get("volumes", {}):
            sys.exit(f"{name} mounts the volume {source}, which is not declared")
    build = service.get("build")
    if build and not (path.parent / build["context"] / build["dockerfile"]).exists():
        sys.exit(f"{name} is built from {build['dockerfile']}, which is not there")
