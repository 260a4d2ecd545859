def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    while True:
        print("still compiling" * 100)
