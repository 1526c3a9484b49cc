"""M/M/8 for Cimba's Python package, which reads a class's annotations and so needs a module of its own."""

import time

import cimba
from cimba import inputs

from benchmarks.networks import MM8_RATE, MM8_SERVERS


class Queue(cimba.Model):
    """Arrivals put customers into a container, and eight servers take them out."""

    gap: cimba.Input[float] = inputs.dist.exponential(mean=1 / MM8_RATE)
    service: cimba.Input[float] = inputs.dist.exponential(mean=1)
    queue: cimba.Container

    @cimba.process
    def arrivals(self):
        """A customer after each gap."""
        while True:
            cimba.hold(self.gap.next())
            self.queue.put(1)

    @cimba.process(copies=MM8_SERVERS)
    def server(self):
        """One customer after another."""
        while True:
            self.queue.get(1)
            cimba.hold(self.service.next())


def seconds(count: int) -> float:
    """Processor time of the second of two runs; the first compiles the model."""
    model, took_s = Queue(), 0.0
    for requests in (100, count):
        window = cimba.Window(warmup=0, duration=requests / MM8_RATE)
        began = time.process_time()
        cimba.Experiment(model, replications=1, window=window, seed=7).run()
        took_s = time.process_time() - began
    return took_s
