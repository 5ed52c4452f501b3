import java.nio.file.Path;
import java.util.Map;
import org.elasticsearch.bootstrap.ServerArgs;
import org.elasticsearch.common.io.stream.OutputStreamStreamOutput;
import org.elasticsearch.common.settings.KeyStoreWrapper;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.node.InternalSettingsPreparer;

/**
 * Writes the start arguments that the server reads from its standard input. Arguments: home, config.
 *
 * Daemon, so that it does not watch its standard input; not quiet; no process id file; an empty key store.
 */
public class StartArguments {
    public static void main(String[] args) throws Exception {
        var env = InternalSettingsPreparer.prepareEnvironment(
            Settings.EMPTY, Map.of("path.home", args[0]), Path.of(args[1]), () -> "node-1");
        try (var secrets = KeyStoreWrapper.create(); var out = new OutputStreamStreamOutput(System.out)) {
            new ServerArgs(true, false, null, secrets, env.settings(), env.configDir(), env.logsDir()).writeTo(out);
        }
    }
}
