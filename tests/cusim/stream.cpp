/*
 * Streams, events and captures. Work is deferred: nothing that was put on a stream runs before
 * something waits for it, so a forgotten synchronisation gives a wrong answer every time.
 */
#include "stream.h"

#include <algorithm>
#include <stdlib.h>
#include <time.h>
#include <vector>

namespace cusim
{
namespace
{

struct State {
    CUstream_st legacy; /* the null stream */
    std::vector<CUstream_st *> streams;
};
State &state = *new State;

double seconds()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs work until the queue is empty, the event is recorded, or the head waits for another stream:
 * no more than was waited for. */
bool poll(CUstream_st *s, const Record *until = nullptr)
{
    const int device = device_now();
    memory_open();
    device_switch(s == &state.legacy ? device : s->device);
    while (!s->queue.empty() && !(until && until->done)) {
        if (!s->queue.front().run())
            break;
        s->queue.pop_front();
    }
    device_switch(device);
    memory_close();
    return until ? until->done : s->queue.empty();
}

void drain_stream(CUstream_st *s, const Record *until = nullptr)
{
    /* A head that waits runs the other stream itself: waiting twice means waiting for ever. */
    if (!poll(s, until) && !poll(s, until)) {
        fprintf(stderr, "cusim: deadlock between streams\n");
        abort();
    }
}

} // namespace

CUstream_st *stream_of(cudaStream_t s)
{
    bool null = !s || s == cudaStreamLegacy || s == cudaStreamPerThread;
    return null ? &state.legacy : s;
}

bool belongs_here(cudaStream_t stream)
{
    CUstream_st *s = stream_of(stream);
    return s == &state.legacy || s->device == device_now();
}

const std::vector<CUstream_st *> &all_streams()
{
    return state.streams;
}

void push(cudaStream_t stream, Work work)
{
    CUstream_st *s = stream_of(stream);
    if (s->graph) {
        s->graph->nodes.push_back(work);
        return;
    }
    s->queue.push_back(work);
    if (s != &state.legacy)
        return;
    /* The legacy stream waits for every blocking stream and they for it. */
    for (CUstream_st *other : state.streams)
        if (other->blocking)
            drain_stream(other);
    drain_stream(s);
}

void push(cudaStream_t stream, const char *kind, std::function<void()> run)
{
    push(stream, Work{[run]() {
                          if (sticky_error() == cudaSuccess)
                              run();
                          return true;
                      },
                      kind, nullptr});
}

bool capturing(cudaStream_t stream)
{
    return stream_of(stream)->graph != nullptr;
}

bool capture_forbids()
{
    bool any = false;
    for (CUstream_st *s : state.streams)
        if (s->graph && s->mode != cudaStreamCaptureModeRelaxed &&
            (s->mode == cudaStreamCaptureModeGlobal || s->owner == pthread_self())) {
            s->graph->invalid = true;
            any = true;
        }
    return any;
}

bool capture_implied(cudaStream_t stream)
{
    bool any = false;
    for (CUstream_st *s : state.streams)
        if (stream_of(stream) == &state.legacy && s->graph && s->blocking) {
            s->graph->invalid = true;
            any = true;
        }
    return any;
}

void drain(cudaStream_t stream)
{
    drain_stream(stream_of(stream));
}

void drain_all()
{
    for (CUstream_st *s : state.streams)
        drain_stream(s);
    drain_stream(&state.legacy);
}

/* What goes on the stream for a wait: the record is the one of now, whatever is recorded later. */
static Work wait_for(std::shared_ptr<Record> record)
{
    return {[record]() {
                if (!record->done)
                    poll(record->stream, record.get());
                return record->done;
            },
            "wait", nullptr};
}

} // namespace cusim

using namespace cusim;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    CUSIM_ENTER(cudaErrorMemoryAllocation);
    *s = new CUstream_st;
    (*s)->blocking = !(flags & cudaStreamNonBlocking);
    (*s)->device = device_now();
    state.streams.push_back(*s);
    return finish(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithFlags(s, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    drain(s);
    state.streams.erase(std::find(state.streams.begin(), state.streams.end(), s));
    delete s;
    return finish(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (capturing(s)) {
        stream_of(s)->graph->invalid = true;
        return finish(cudaErrorStreamCaptureUnsupported);
    }
    drain(s);
    return finish(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    drain_all();
    return finish(cudaSuccess);
}

/* Pending work is not ready at the first question and done at the second: both paths of a caller
 * that polls are taken. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    CUstream_st *s = stream_of(stream);
    if (s->graph) {
        s->graph->invalid = true;
        return finish(cudaErrorStreamCaptureUnsupported);
    }
    if (s->queue.empty())
        return finish(cudaSuccess);
    s->asked = !s->asked;
    if (s->asked)
        return finish(cudaErrorNotReady);
    drain(stream);
    return finish(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    CUSIM_ENTER(cudaErrorMemoryAllocation);
    *e = new CUevent_st;
    return finish(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    delete e;
    return finish(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    CUstream_st *s = stream_of(stream);
    auto record = std::make_shared<Record>();
    record->stream = s;
    record->graph = s->graph;
    e->record = record;
    if (!s->graph) /* in a capture an event is an edge of the graph, kept by the list's order */
        push(stream, {[record]() {
                          record->done = true;
                          record->time = seconds();
                          return true;
                      },
                      "event", nullptr});
    return finish(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    Record *r = e->record.get();
    if (r && r->graph)
        return finish(cudaErrorCapturedEvent);
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    if (!r || r->done)
        return finish(cudaSuccess);
    r->asked = !r->asked;
    if (r->asked)
        return finish(cudaErrorNotReady);
    poll(r->stream, r);
    return finish(r->done ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    Record *r = e->record.get();
    if (r && r->graph)
        return finish(cudaErrorCapturedEvent);
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    if (r && !r->done)
        drain_stream(r->stream, r);
    return finish(cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (!start->record || !end->record)
        return finish(cudaErrorInvalidResourceHandle);
    if (!start->record->done || !end->record->done)
        return finish(cudaErrorNotReady);
    *ms = (float)((end->record->time - start->record->time) * 1e3);
    return finish(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    CUstream_st *s = stream_of(stream);
    if (!e->record)
        return finish(cudaSuccess);
    if (e->record->graph) { /* the stream joins the capture that the event belongs to */
        if (s->graph && s->graph != e->record->graph)
            return finish(cudaErrorStreamCaptureMerge);
        s->graph = e->record->graph;
        s->mode = e->record->stream->mode;
        s->owner = e->record->stream->owner;
        return finish(cudaSuccess);
    }
    if (s->graph) {
        s->graph->invalid = true;
        return finish(cudaErrorStreamCaptureIsolation);
    }
    push(stream, wait_for(e->record));
    return finish(cudaSuccess);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void *data)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    push(s, "host function", [=]() { fn(data); });
    return finish(cudaSuccess);
}

} // extern "C"
