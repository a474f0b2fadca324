/*
 * Streams, events, copies and graphs as documented; and mistakes of host code, each with what gives
 * it away: a wrong value every time, since nothing runs before something waits for it.
 */
#include "child.h"
#include "support.h"

namespace
{

const int N = 64;

__global__ void add(float a, float *y)
{
    y[threadIdx.x] += a;
}

__global__ void copy(const float *x, float *y)
{
    y[threadIdx.x] = x[threadIdx.x];
}

/* Two streams, an event, device and pinned memory of N floats. */
struct Setup {
    cudaStream_t a = nullptr, b = nullptr;
    cudaEvent_t e = nullptr;
    float *pinned = nullptr, *device = nullptr, *other = nullptr;

    Setup()
    {
        assert_int_equal(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), cudaSuccess);
        assert_int_equal(cudaMallocHost((void **)&pinned, N * sizeof(float)), cudaSuccess);
        assert_int_equal(cudaMalloc((void **)&device, N * sizeof(float)), cudaSuccess);
        assert_int_equal(cudaMalloc((void **)&other, N * sizeof(float)), cudaSuccess);
        cudaMemset(device, 0, N * sizeof(float));
    }
    ~Setup()
    {
        cudaFree(other);
        cudaFree(device);
        cudaFreeHost(pinned);
        cudaEventDestroy(e);
        cudaStreamDestroy(b);
        cudaStreamDestroy(a);
    }
    void launch_add(float v, cudaStream_t s) const
    {
        CU_LAUNCH(add, dim3(1), dim3(N), 0, s, v, device);
    }
    void get(cudaStream_t s) const
    {
        cudaMemcpyAsync(pinned, device, N * sizeof(float), cudaMemcpyDeviceToHost, s);
    }
};

void test_synchronised(void **)
{
    Setup t;
    t.launch_add(2, t.a);
    cudaEventRecord(t.e, t.a);
    cudaStreamWaitEvent(t.b, t.e, 0);
    t.get(t.b);
    cudaStreamSynchronize(t.b);
    assert_true(t.pinned[0] == 2 && t.pinned[N - 1] == 2);
}

/* Mistake: the host reads before it waits. */
void test_read_before_sync(void **)
{
    Setup t;
    t.launch_add(2, t.a);
    t.get(t.a);
    assert_true(t.pinned[0] != 2);
    cudaStreamSynchronize(t.a);
    assert_true(t.pinned[0] == 2);
}

/* Mistake: a second stream reads what the first has yet to write. */
void test_missing_wait(void **)
{
    Setup t;
    t.launch_add(2, t.a);
    t.get(t.b);
    cudaStreamSynchronize(t.b);
    assert_true(t.pinned[0] != 2);
    cudaStreamSynchronize(t.a);
}

/* Mistake: pinned memory is changed while a copy from it is pending. Pageable memory may be. */
void test_source_reused(void **)
{
    Setup t;
    float pageable[N];
    for (int i = 0; i < N; i++)
        t.pinned[i] = pageable[i] = 1;
    cudaMemcpyAsync(t.device, t.pinned, sizeof pageable, cudaMemcpyHostToDevice, t.a);
    cudaMemcpyAsync(t.other, pageable, sizeof pageable, cudaMemcpyHostToDevice, t.a);
    for (int i = 0; i < N; i++)
        t.pinned[i] = pageable[i] = 5;
    float got[N];
    cudaMemcpyAsync(got, t.other, sizeof got, cudaMemcpyDeviceToHost, t.a);
    assert_true(got[0] == 1); /* and the way to pageable memory waits for the stream */
    cudaMemcpy(got, t.device, sizeof got, cudaMemcpyDeviceToHost);
    assert_true(got[0] == 5);
}

/* Mistake: the host follows a device pointer. */
void test_host_reads_device(void **)
{
    Outcome o = in_child(1, "CUSIM_ORDER", "forward", [](float *out) {
        Setup t;
        out[0] = t.device[0];
    });
    assert_true(o.died);
    assert_non_null(strstr(o.text.c_str(), "the host follows a device pointer"));
}

void test_wrong_kind(void **)
{
    Setup t;
    const size_t n = N * sizeof(float);
    float host[N] = {0};
    assert_int_equal(cudaMemcpyAsync(t.device, host, n, cudaMemcpyDeviceToHost, t.a),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpyAsync(t.device, host, n, cudaMemcpyDeviceToDevice, t.a),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpyAsync(t.device, host, n + 1, cudaMemcpyHostToDevice, t.a),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(t.device, 0, n + 1, t.a), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

void test_release(void **)
{
    float *p = nullptr;
    size_t before, free_bytes, total;
    cudaMemGetInfo(&before, &total);
    assert_int_equal(cudaMalloc((void **)&p, 1000), cudaSuccess);
    cudaMemGetInfo(&free_bytes, &total);
    assert_int_equal(before - free_bytes, 1024);
    assert_int_equal((uintptr_t)p % 256, 0);
    assert_int_equal(cudaFree(p), cudaSuccess);
    assert_int_equal(cudaFree(p), cudaErrorInvalidValue);
    cudaMemGetInfo(&free_bytes, &total);
    assert_int_equal(before, free_bytes);
    assert_int_equal(cudaMalloc((void **)&p, total + 1), cudaErrorMemoryAllocation);
    assert_null(p);
    cudaGetLastError();
}

void test_queries(void **)
{
    Setup t;
    assert_int_equal(cudaStreamQuery(t.a), cudaSuccess);
    t.launch_add(1, t.a);
    cudaEventRecord(t.e, t.a);
    assert_int_equal(cudaEventQuery(t.e), cudaErrorNotReady);
    assert_int_equal(cudaEventQuery(t.e), cudaSuccess);
    assert_int_equal(cudaStreamQuery(t.a), cudaSuccess);
    t.launch_add(1, t.a);
    assert_int_equal(cudaStreamQuery(t.a), cudaErrorNotReady);
    assert_int_equal(cudaStreamQuery(t.a), cudaSuccess);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

/* A wait is for the record of now, not for one made later. */
void test_event_records(void **)
{
    Setup t;
    t.launch_add(1, t.a);
    cudaEventRecord(t.e, t.a);
    cudaStreamWaitEvent(t.b, t.e, 0);
    t.get(t.b);
    t.launch_add(10, t.a);
    cudaEventRecord(t.e, t.a);
    cudaStreamSynchronize(t.b);
    assert_true(t.pinned[0] == 1);
    cudaEventSynchronize(t.e);
    t.get(t.a);
    cudaStreamSynchronize(t.a);
    assert_true(t.pinned[0] == 11);
}

void test_mapped(void **)
{
    float *host = nullptr, *device = nullptr;
    assert_int_equal(cudaHostAlloc((void **)&host, N * sizeof(float), cudaHostAllocMapped),
                     cudaSuccess);
    assert_int_equal(cudaHostGetDevicePointer((void **)&device, host, 0), cudaSuccess);
    Setup t;
    CU_LAUNCH(copy, dim3(1), dim3(N), 0, t.a, t.device, device);
    cudaStreamSynchronize(t.a);
    assert_true(host[3] == 0);
    cudaFreeHost(host);
    std::vector<float> own(N, 7.0f);
    assert_int_equal(cudaHostRegister(own.data(), N * sizeof(float), cudaHostRegisterDefault),
                     cudaSuccess);
    CU_LAUNCH(copy, dim3(1), dim3(N), 0, t.a, own.data(), t.device);
    assert_int_equal(cudaHostUnregister(own.data()), cudaSuccess);
    t.get(t.a);
    cudaStreamSynchronize(t.a);
    assert_true(t.pinned[0] == 7);
    assert_int_equal(cudaHostUnregister(own.data()), cudaErrorHostMemoryNotRegistered);
    cudaGetLastError();
}

void test_graph(void **)
{
    Setup t;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    assert_int_equal(cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    t.launch_add(1, t.a);
    cudaEventRecord(t.e, t.a); /* fork ... */
    cudaStreamWaitEvent(t.b, t.e, 0);
    t.launch_add(2, t.b);
    cudaEventRecord(t.e, t.b); /* ... and join */
    cudaStreamWaitEvent(t.a, t.e, 0);
    t.get(t.a);
    assert_int_equal(cudaStreamEndCapture(t.a, &graph), cudaSuccess);
    size_t nodes = 0;
    assert_int_equal(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
    assert_int_equal(nodes, 3);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
    for (int i = 0; i < 4; i++)
        assert_int_equal(cudaGraphLaunch(exec, t.a), cudaSuccess);
    assert_true(t.pinned[0] != 12); /* nothing has run */
    cudaStreamSynchronize(t.a);
    assert_true(t.pinned[0] == 12);

    /* Update: same nodes with other arguments; other nodes are refused. */
    for (int copies = 1; copies <= 2; copies++) {
        cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal);
        t.launch_add(100, t.a);
        t.launch_add(0, t.a);
        for (int i = 0; i < copies; i++)
            t.get(t.a);
        cudaStreamEndCapture(t.a, &graph);
        cudaGraphExecUpdateResultInfo info;
        assert_int_equal(cudaGraphExecUpdate(exec, graph, &info),
                         copies == 1 ? cudaSuccess : cudaErrorGraphExecUpdateFailure);
        cudaGraphDestroy(graph);
    }
    cudaGraphLaunch(exec, t.a);
    cudaStreamSynchronize(t.a);
    assert_true(t.pinned[0] == 112);
    cudaGraphExecDestroy(exec);
    cudaGetLastError();
}

/* Host waits, memory and pageable copies: what a capture does not allow. */
cudaError_t forbidden(int which, Setup &t)
{
    static float pageable[N];
    void *p = nullptr;
    switch (which) {
    case 0: return cudaStreamSynchronize(t.a);
    case 1: return cudaMalloc(&p, 100);
    case 2: return cudaDeviceSynchronize();
    case 3: return cudaFree(t.other);
    case 4: return cudaMallocHost(&p, 100);
    case 5: return cudaFreeHost(t.pinned);
    case 6: return cudaStreamQuery(t.a);
    case 7: return cudaEventSynchronize(t.e);
    case 8: return cudaEventQuery(t.e);
    case 9: return cudaMemcpy(t.other, t.device, N * sizeof(float), cudaMemcpyDeviceToDevice);
    case 10: return cudaMemset(t.other, 0, N * sizeof(float));
    case 11:
        return cudaMemcpyAsync(t.device, pageable, sizeof pageable, cudaMemcpyHostToDevice, t.a);
    case 12:
        return cudaMemcpyAsync(pageable, t.device, sizeof pageable, cudaMemcpyDeviceToHost, t.a);
    default: return cudaHostRegister(pageable, sizeof pageable, cudaHostRegisterDefault);
    }
}

/* Each ends the capture as invalid, and nothing of it runs. */
void test_capture_forbids(void **)
{
    for (int which = 0; which <= 13; which++) {
        Setup t;
        cudaGraph_t graph = nullptr;
        cudaEventRecord(t.e, t.b);
        cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal);
        t.launch_add(1, t.a);
        assert_int_equal(forbidden(which, t), cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaStreamEndCapture(t.a, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
        t.get(t.a);
        cudaStreamSynchronize(t.a);
        assert_true(t.pinned[0] == 0);
        cudaGetLastError();
    }
}

/* The null stream waits for blocking streams: not for one that is being captured. */
void test_null_stream_in_capture(void **)
{
    for (int blocking = 0; blocking < 2; blocking++) {
        Setup t;
        cudaStream_t s = nullptr;
        cudaGraph_t graph = nullptr;
        cudaStreamCreateWithFlags(&s, blocking ? cudaStreamDefault : cudaStreamNonBlocking);
        cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
        t.launch_add(1, s);
        t.launch_add(10, nullptr);
        assert_int_equal(cudaGetLastError(),
                         blocking ? cudaErrorStreamCaptureImplicit : cudaSuccess);
        assert_int_equal(cudaStreamEndCapture(s, &graph),
                         blocking ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
        if (graph)
            cudaGraphDestroy(graph);
        cudaStreamDestroy(s);
        cudaGetLastError();
    }
}

/* Mistake: a graph outlives memory that it names. */
void stale_graph(int which)
{
    Setup t;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal);
    if (which == 0)
        t.launch_add(1, t.a);
    else if (which == 1)
        cudaMemsetAsync(t.device, 0, N * sizeof(float), t.a);
    else
        t.get(t.a);
    cudaStreamEndCapture(t.a, &graph);
    cudaGraphInstantiate(&exec, graph, 0);
    cudaGraphDestroy(graph);
    cudaGraphLaunch(exec, t.a);
    cudaStreamSynchronize(t.a);
    if (which < 2)
        cudaFree(t.device);
    else
        cudaFreeHost(t.pinned);
    cudaGraphLaunch(exec, t.a);
    cudaStreamSynchronize(t.a);
}

void test_graph_of_freed_memory(void **)
{
    const char *const said[] = {"freed memory", "freed memory", "pinned no more"};
    for (int which = 0; which < 3; which++) {
        Outcome o = in_child(1, "CUSIM_ORDER", "forward", [which](float *) { stale_graph(which); });
        assert_true(o.died);
        assert_non_null(strstr(o.text.c_str(), said[which]));
    }
}

void test_bad_launch(void **)
{
    Setup t;
    CU_LAUNCH(add, dim3(1), dim3(1025), 0, t.a, 1.0f, t.device);
    assert_int_equal(cudaPeekAtLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    CU_LAUNCH(add, dim3(1, 65536), dim3(N), 0, t.a, 1.0f, t.device);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    CU_LAUNCH(add, dim3(0), dim3(N), 0, t.a, 1.0f, t.device);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
}

/* The n-th call fails and only that one; a sticky error stays. Runs first: calls are counted from
 * the start of the process, and a child inherits the count. */
void test_failures_on_demand(void **)
{
    Outcome o = in_child(4, "CUSIM_FAIL", "cudaMalloc:2,cudaMemcpyAsync:1", [](float *out) {
        void *p = nullptr;
        for (int i = 0; i < 3; i++)
            out[i] = (float)cudaMalloc(&p, 100);
        out[3] = (float)cudaMemcpyAsync(p, &out[3], 4, cudaMemcpyHostToDevice, nullptr);
    });
    assert_true(o.values[0] == 0 && o.values[2] == 0);
    assert_true(o.values[1] == (float)cudaErrorMemoryAllocation);
    assert_true(o.values[3] == (float)cudaErrorIllegalAddress);
    o = in_child(5, "CUSIM_STICKY", "cudaLaunchKernel:2", [](float *out) {
        Setup t;
        t.launch_add(1, t.a);
        t.launch_add(1, t.a); /* fails when it runs */
        out[0] = (float)cudaGetLastError();
        out[1] = (float)cudaStreamSynchronize(t.a);
        out[2] = (float)cudaStreamSynchronize(t.a);
        void *p = nullptr;
        out[3] = (float)cudaMalloc(&p, 100);
        out[4] = (float)cudaGetLastError();
    });
    assert_true(o.values[0] == 0);
    for (size_t i = 1; i < 5; i++)
        assert_true(o.values[i] == (float)cudaErrorIllegalAddress);
}

void test_no_device(void **)
{
    Outcome o = in_child(3, "CUSIM_DEVICES", "0", [](float *out) {
        int n = -1;
        out[0] = (float)cudaGetDeviceCount(&n);
        out[1] = (float)n;
        out[2] = (float)cudaSetDevice(0);
    });
    assert_true(o.values[0] == (float)cudaErrorNoDevice && o.values[1] == 0);
    assert_true(o.values[2] == (float)cudaErrorNoDevice);
    o = in_child(1, "CUSIM_DEVICES", "2", [](float *out) { out[0] = (float)cudaSetDevice(2); });
    assert_true(o.values[0] == (float)cudaErrorInvalidDevice);
}

void test_memory_cap(void **)
{
    Outcome o = in_child(2, "CUSIM_MEMORY", "1048576", [](float *out) {
        void *p = nullptr;
        while (cudaMalloc(&p, 100000) == cudaSuccess)
            out[0]++;
        out[1] = (float)cudaGetLastError();
    });
    assert_true(o.values[0] == 10);
    assert_true(o.values[1] == (float)cudaErrorMemoryAllocation);
}

} // namespace

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures_on_demand),
        cmocka_unit_test(test_synchronised),
        cmocka_unit_test(test_read_before_sync),
        cmocka_unit_test(test_missing_wait),
        cmocka_unit_test(test_source_reused),
        cmocka_unit_test(test_host_reads_device),
        cmocka_unit_test(test_wrong_kind),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_event_records),
        cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_graph),
        cmocka_unit_test(test_capture_forbids),
        cmocka_unit_test(test_null_stream_in_capture),
        cmocka_unit_test(test_graph_of_freed_memory),
        cmocka_unit_test(test_bad_launch),
        cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_memory_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
