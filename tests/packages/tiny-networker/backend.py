import urllib.request


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    urllib.request.urlopen("http://data.example.org/weights.bin", timeout=5)
