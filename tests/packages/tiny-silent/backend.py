import os


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("this will take a while", flush=True)
    os.execvp("sleep", ["sleep", os.environ.get("SILENT_SECONDS", "600")])
