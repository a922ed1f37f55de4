import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.protobuf.UInt32Value;
import io.grpc.CallOptions;
import io.grpc.Grpc;
import io.grpc.HandlerRegistry;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerMethodDefinition;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.cluster.v3.Cluster;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.core.v3.Address;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.core.v3.AggregatedConfigSource;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.core.v3.ConfigSource;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.core.v3.GrpcService;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.core.v3.Locality;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.core.v3.SocketAddress;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.endpoint.v3.ClusterLoadAssignment;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.endpoint.v3.Endpoint;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.endpoint.v3.LbEndpoint;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.endpoint.v3.LocalityLbEndpoints;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.listener.v3.ApiListener;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.listener.v3.Listener;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.route.v3.Route;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.route.v3.RouteAction;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.route.v3.RouteConfiguration;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.route.v3.RouteMatch;
import io.grpc.xds.shaded.io.envoyproxy.envoy.config.route.v3.VirtualHost;
import io.grpc.xds.shaded.io.envoyproxy.envoy.extensions.filters.http.ext_authz.v3.ExtAuthz;
import io.grpc.xds.shaded.io.envoyproxy.envoy.extensions.filters.http.router.v3.Router;
import io.grpc.xds.shaded.io.envoyproxy.envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager;
import io.grpc.xds.shaded.io.envoyproxy.envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter;
import io.grpc.xds.shaded.io.envoyproxy.envoy.extensions.grpc_service.channel_credentials.insecure.v3.InsecureCredentials;
import io.grpc.xds.shaded.io.envoyproxy.envoy.service.discovery.v3.AggregatedDiscoveryServiceGrpc;
import io.grpc.xds.shaded.io.envoyproxy.envoy.service.discovery.v3.DiscoveryRequest;
import io.grpc.xds.shaded.io.envoyproxy.envoy.service.discovery.v3.DiscoveryResponse;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/**
 * A gRPC client whose own filter asks an authorization server: a control plane, a backend and calls, in one process.
 *
 * <p>Arguments: the host:port of that server; `optional` if the filter may be left out; `patient` if calls wait for the
 * control plane, however slow the machine. A line of standard input is a call, as JSON: `method`, and `headers`. A line of standard output is what came of it: `code`, `description`, and
 * `seen`, the headers that reached the backend; null if it was not reached.
 */
public class Caller {
  private static final String NUMBER = "x-number";
  private static final Metadata.Key<String> NUMBER_KEY = key(NUMBER);
  private static final Gson GSON = new Gson().newBuilder().serializeNulls().create();
  private static final Map<String, Map<String, String>> SEEN = new ConcurrentHashMap<>();

  /** One call to make. */
  record Call(String method, Map<String, String> headers) {}

  /** What came of it. */
  record Outcome(String code, String description, Map<String, String> seen) {}

  public static void main(String[] arguments) throws Exception {
    boolean optional = List.of(arguments).contains("optional");
    CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(10, TimeUnit.MINUTES);
    if (List.of(arguments).contains("patient")) {
      options = options.withWaitForReady();
    }
    Server backend = serve(new Backend());
    Server control = serve(new ControlPlane(arguments[0], backend.getPort(), optional));
    System.setProperty("io.grpc.xds.bootstrapConfig", bootstrap(control.getPort()));
    ManagedChannel channel =
        Grpc.newChannelBuilder("xds:///service", InsecureChannelCredentials.create()).build();
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    int number = 0;
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      System.out.println(GSON.toJson(make(channel, options, GSON.fromJson(line, Call.class), number++)));
    }
    channel.shutdownNow();
    control.shutdownNow();
    backend.shutdownNow();
    channel.awaitTermination(10, TimeUnit.SECONDS);
  }

  private static Outcome make(ManagedChannel channel, CallOptions options, Call call, int number) {
    Metadata headers = new Metadata();
    headers.put(NUMBER_KEY, String.valueOf(number));
    call.headers().forEach((name, value) -> headers.put(key(name), value));
    String code = "OK";
    String description = null;
    try {
      ClientCalls.blockingUnaryCall(
          io.grpc.ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers)),
          method(call.method()),
          options,
          new byte[0]);
    } catch (StatusRuntimeException failed) {
      code = failed.getStatus().getCode().name();
      description = failed.getStatus().getDescription();
    }
    return new Outcome(code, description, SEEN.get(String.valueOf(number)));
  }

  private static Server serve(io.grpc.BindableService service) throws IOException {
    return io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder.forAddress(
            new InetSocketAddress("127.0.0.1", 0), InsecureServerCredentials.create())
        .addService(service)
        .build()
        .start();
  }

  private static Server serve(HandlerRegistry registry) throws IOException {
    return io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder.forAddress(
            new InetSocketAddress("127.0.0.1", 0), InsecureServerCredentials.create())
        .fallbackHandlerRegistry(registry)
        .build()
        .start();
  }

  private static String bootstrap(int port) {
    Map<String, Object> server = new HashMap<>();
    server.put("server_uri", "127.0.0.1:" + port);
    server.put("channel_creds", List.of(Map.of("type", "insecure")));
    server.put("server_features", List.of("xds_v3", "trusted_xds_server"));
    return GSON.toJson(Map.of("xds_servers", List.of(server), "node", Map.of("id", "caller")));
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static MethodDescriptor<byte[], byte[]> method(String name) {
    return MethodDescriptor.<byte[], byte[]>newBuilder()
        .setType(MethodDescriptor.MethodType.UNARY)
        .setFullMethodName(name)
        .setRequestMarshaller(new Octets())
        .setResponseMarshaller(new Octets())
        .build();
  }

  /** Octets as they are. */
  private static class Octets implements MethodDescriptor.Marshaller<byte[]> {
    @Override
    public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    @Override
    public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (IOException failed) {
        throw new UncheckedIOException(failed);
      }
    }
  }

  /** Answers every call, and notes the headers that came with it. */
  private static class Backend extends HandlerRegistry {
    @Override
    public ServerMethodDefinition<?, ?> lookupMethod(String name, String authority) {
      ServerCallHandler<byte[], byte[]> handler =
          ServerCalls.asyncUnaryCall(
              (request, observer) -> {
                observer.onNext(request);
                observer.onCompleted();
              });
      return ServerMethodDefinition.create(method(name), (call, headers) -> note(call, headers, handler));
    }

    private static ServerCall.Listener<byte[]> note(
        ServerCall<byte[], byte[]> call, Metadata headers, ServerCallHandler<byte[], byte[]> handler) {
      Map<String, String> seen = new TreeMap<>();
      for (String name : headers.keys()) {
        if (!name.endsWith("-bin")) {
          headers.getAll(key(name)).forEach(value -> seen.merge(name, value, (one, other) -> one + "," + other));
        }
      }
      SEEN.put(headers.get(NUMBER_KEY), seen);
      return handler.startCall(call, headers);
    }
  }

  /** Tells the client of a listener with the filter, and of the backend. */
  private static class ControlPlane extends AggregatedDiscoveryServiceGrpc.AggregatedDiscoveryServiceImplBase {
    private final Map<String, Message> resources = new HashMap<>();

    ControlPlane(String authorization, int backend, boolean optional) {
      for (Message each : List.of(listener(authorization, optional), cluster(), endpoints(backend))) {
        resources.put(Any.pack(each).getTypeUrl(), each);
      }
    }

    @Override
    public StreamObserver<DiscoveryRequest> streamAggregatedResources(StreamObserver<DiscoveryResponse> observer) {
      Map<String, List<String>> known = new HashMap<>();
      return new StreamObserver<>() {
        @Override
        public void onNext(DiscoveryRequest request) {
          if (request.hasErrorDetail()) {
            System.err.println("refused: " + request.getErrorDetail().getMessage());
          }
          List<String> names = List.copyOf(request.getResourceNamesList());
          Message resource = resources.get(request.getTypeUrl());
          if (resource != null && !names.equals(known.put(request.getTypeUrl(), names))) {
            observer.onNext(
                DiscoveryResponse.newBuilder()
                    .setTypeUrl(request.getTypeUrl())
                    .setVersionInfo("1")
                    .setNonce("1")
                    .addResources(Any.pack(resource))
                    .build());
          }
        }

        @Override
        public void onError(Throwable failed) {}

        @Override
        public void onCompleted() {
          observer.onCompleted();
        }
      };
    }

    private static Listener listener(String authorization, boolean optional) {
      GrpcService.GoogleGrpc server =
          GrpcService.GoogleGrpc.newBuilder()
              .setTargetUri("dns:///" + authorization)
              .addChannelCredentialsPlugin(Any.pack(InsecureCredentials.getDefaultInstance()))
              .build();
      ExtAuthz asking =
          ExtAuthz.newBuilder().setGrpcService(GrpcService.newBuilder().setGoogleGrpc(server)).build();
      Route route =
          Route.newBuilder()
              .setMatch(RouteMatch.newBuilder().setPrefix(""))
              .setRoute(RouteAction.newBuilder().setCluster("backend"))
              .build();
      HttpConnectionManager manager =
          HttpConnectionManager.newBuilder()
              .setRouteConfig(
                  RouteConfiguration.newBuilder()
                      .setName("routes")
                      .addVirtualHosts(VirtualHost.newBuilder().setName("all").addDomains("*").addRoutes(route)))
              .addHttpFilters(
                  HttpFilter.newBuilder().setName("ask").setTypedConfig(Any.pack(asking)).setIsOptional(optional))
              .addHttpFilters(
                  HttpFilter.newBuilder().setName("router").setTypedConfig(Any.pack(Router.getDefaultInstance())))
              .build();
      return Listener.newBuilder()
          .setName("service")
          .setApiListener(ApiListener.newBuilder().setApiListener(Any.pack(manager)))
          .build();
    }

    private static Cluster cluster() {
      ConfigSource here = ConfigSource.newBuilder().setAds(AggregatedConfigSource.getDefaultInstance()).build();
      return Cluster.newBuilder()
          .setName("backend")
          .setType(Cluster.DiscoveryType.EDS)
          .setEdsClusterConfig(Cluster.EdsClusterConfig.newBuilder().setEdsConfig(here))
          .setLbPolicy(Cluster.LbPolicy.ROUND_ROBIN)
          .build();
    }

    private static ClusterLoadAssignment endpoints(int port) {
      SocketAddress socket = SocketAddress.newBuilder().setAddress("127.0.0.1").setPortValue(port).build();
      Endpoint endpoint = Endpoint.newBuilder().setAddress(Address.newBuilder().setSocketAddress(socket)).build();
      return ClusterLoadAssignment.newBuilder()
          .setClusterName("backend")
          .addEndpoints(
              LocalityLbEndpoints.newBuilder()
                  .setLocality(Locality.newBuilder().setRegion("here"))
                  .setLoadBalancingWeight(UInt32Value.of(1))
                  .addLbEndpoints(LbEndpoint.newBuilder().setEndpoint(endpoint)))
          .build();
    }
  }
}
