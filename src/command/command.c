#include "command/command.h"

#include "master/master.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    bool is_program; /* also under build/bin and $command_directory */
} commands[] = {
    { "sendmail", command_sendmail, true },
    { "mailq", command_sendmail, true },
    { "newaliases", command_sendmail, true },
    { "postconf", command_postconf, true },
    { "postmap", command_postmap, true },
    { "postalias", command_postmap, true },
    { "postqueue", command_postqueue, true },
    { "postsuper", command_postsuper, true },
    { "postcat", command_postcat, true },
    { "postlog", command_postlog, true },
    { "qshape", command_qshape, true },
    { "init", command_init, false },
    { "check", command_check, false },
    { "user", command_user, false },
    { "who", command_who, false },
    { "kick", command_kick, false },
    { "mailbox", command_mailbox, false },
    { "queue", command_queue, false },
    { "dns", command_dns, false },
    { "metrics", command_metrics, false },
    { "trace", command_trace, false },
};

void command_print_names(void)
{
    puts("hato");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (commands[i].is_program)
            puts(commands[i].name);
}

/* `hato [-c DIR] COMMAND ...`: where the command stands in argv. */
static int find_command(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-c") == 0 && i + 1 < argc) {
            (void)setenv("MAIL_CONFIG", argv[++i], 1);
            continue;
        }
        if (argv[i][0] != '-')
            return i;
    }
    return argc;
}

int command_main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash != NULL ? slash + 1 : argv[0];
    int at;

    if (argc > 1 && strcmp(argv[1], "--names") == 0) {
        command_print_names();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("hato " HATO_VERSION);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (commands[i].is_program && strcmp(name, commands[i].name) == 0) {
            command_name = commands[i].name;
            return commands[i].run(argc, argv);
        }
    at = find_command(argc, argv);
    for (size_t i = 0; at < argc && i < ARRAY_LEN(commands); i++)
        if (strcmp(argv[at], commands[i].name) == 0) {
            command_name = commands[i].name;
            return commands[i].run(argc - at, argv + at);
        }
    return master_command(argc, argv);
}
