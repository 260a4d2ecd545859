"""The builder: session, sandbox, build environments, uploader."""
