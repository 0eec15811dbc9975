# The image with the binary that `make build` has made here, where this system's libraries are those of the image:
#   docker build --target bare -t keyval-bare -f docker/Dockerfile . && docker build -t keyval -f docker/built.Dockerfile .
FROM keyval-bare
COPY target/release/keyval /usr/local/bin/keyval
