/*
 * Captures and graphs: a graph is the list of what was put on the captured streams.
 */
#include "stream.h"

using namespace cusim;

namespace
{

/* A replayed node forgets nothing between launches: an event's record stays done, so a graph holds
 * none (stream.cpp). */
void push_all(const std::vector<Work> &nodes, cudaStream_t stream)
{
    for (const Work &w : nodes)
        push(stream, w);
}

bool same_topology(const std::vector<Work> &a, const std::vector<Work> &b)
{
    if (a.size() != b.size())
        return false;
    for (size_t i = 0; i < a.size(); i++)
        if (strcmp(a[i].kind, b[i].kind) != 0 || a[i].function != b[i].function)
            return false;
    return true;
}

} // namespace

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    CUSIM_ENTER(cudaErrorStreamCaptureUnsupported);
    CUstream_st *s = stream_of(stream);
    if (s == stream_of(nullptr) || s->graph)
        return finish(cudaErrorStreamCaptureUnsupported);
    s->graph = new CUgraph_st;
    s->origin = true;
    s->mode = mode;
    s->owner = pthread_self();
    return finish(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    CUSIM_ENTER(cudaErrorStreamCaptureInvalidated);
    CUstream_st *s = stream_of(stream);
    *graph = nullptr;
    if (!s->graph || !s->origin)
        return finish(s->graph ? cudaErrorStreamCaptureUnmatched : cudaErrorInvalidValue);
    if (s->mode != cudaStreamCaptureModeRelaxed && s->owner != pthread_self())
        return finish(cudaErrorStreamCaptureWrongThread);
    CUgraph_st *done = s->graph;
    for (CUstream_st *other : all_streams())
        if (other->graph == done) {
            other->graph = nullptr;
            other->origin = false;
        }
    if (done->invalid) {
        delete done;
        return finish(cudaErrorStreamCaptureInvalidated);
    }
    *graph = done;
    return finish(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    CUSIM_ENTER(cudaErrorInvalidValue);
    CUgraph_st *g = stream_of(stream)->graph;
    *status = !g           ? cudaStreamCaptureStatusNone
              : g->invalid ? cudaStreamCaptureStatusInvalidated
                           : cudaStreamCaptureStatusActive;
    return finish(cudaSuccess);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    static thread_local cudaStreamCaptureMode current = cudaStreamCaptureModeGlobal;
    CUSIM_ENTER(cudaErrorInvalidValue);
    std::swap(current, *mode);
    return finish(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    CUSIM_ENTER(cudaErrorMemoryAllocation);
    *exec = new CUgraphExec_st{graph->nodes};
    return finish(cudaSuccess);
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo *info)
{
    CUSIM_ENTER(cudaErrorGraphExecUpdateFailure);
    bool same = same_topology(exec->nodes, graph->nodes);
    if (info) {
        memset(info, 0, sizeof *info);
        info->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    }
    if (!same)
        return finish(cudaErrorGraphExecUpdateFailure);
    exec->nodes = graph->nodes;
    return finish(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    CUSIM_ENTER(cudaErrorLaunchFailure);
    push_all(exec->nodes, stream);
    return finish(cudaSuccess);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n)
{
    CUSIM_ENTER(cudaErrorInvalidValue);
    if (nodes) /* nodes cannot be inspected one by one here, only counted */
        return finish(cudaErrorInvalidValue);
    *n = graph->nodes.size();
    return finish(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    delete graph;
    return finish(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    drain_all();
    delete exec;
    return finish(cudaSuccess);
}

} // extern "C"
