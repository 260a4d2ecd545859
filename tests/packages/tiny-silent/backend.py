import time


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("this will take a while")
    time.sleep(600)
