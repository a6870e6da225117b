"""Bundles served over HTTP and gRPC, by the Open Inference Protocol: docs/serving.md.

refusals  what a request is told that gets no answer
pool      engine children of one model: a queue, batches, restarts
served    a bundle, its pools, its self-check, pictures in and tasks out
shadow    the server engine beside the edge one, on a share of the requests
protocol  tensors of requests and answers, as JSON with or without binary parts
bodies    what a client sends, with limits
http, grpc_door  the two doors
connection   the HTTP library, set up
desk         where both bring their requests; guard stands before HTTP
opening, server   from bundles on disk to models that answer; start, check, listen, stop
metrics, logs, settings   what Prometheus reads, what is written down, what is allowed
"""
