def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    bytearray(8 * 1024**3)
