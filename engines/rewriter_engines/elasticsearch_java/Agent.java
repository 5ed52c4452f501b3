import java.lang.instrument.Instrumentation;

/** The server attaches this agent to itself and names, as its argument, the class that wants the Instrumentation. */
public class Agent {
    public static void agentmain(String target, Instrumentation instrumentation) throws Exception {
        Class.forName(target).getMethod("initialize", Instrumentation.class).invoke(null, instrumentation);
    }
}
