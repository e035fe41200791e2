"""Lists and unwinds the tasks of a Hato process in gdb, live or from a core.

    gdb -p PID -x tools/gdb-tasks.py -ex tasks
    (gdb) tasks          one line a task
    (gdb) tasks bt       with the calls of each that is suspended
    (gdb) tasks bt NAME  only those of that name

It walks frame pointers, so it needs no unwind information and does not touch
the process.  It knows the assembly back end; with -Dtask_backend=thread each
task is a thread, and `thread apply all bt` shows it.
"""

import gdb

STATES = {1: "ready", 2: "running", 3: "waiting", 4: "gone"}
WAITS = {0: "wake", 1: "sleep", 2: "offload"}
# Offsets of the saved frame pointer and return address, and the lowest frame
# (struct saved in src/rt/context_asm.c).
SAVED = {"i386:x86-64": (48, 56), "aarch64": (144, 152)}
MAX_FRAMES = 100


def read_word(address):
    data = gdb.selected_inferior().read_memory(address, 8)
    return int.from_bytes(bytes(data), "little")


def container_of(link, type_name, member):
    struct = gdb.lookup_type(type_name)
    offset = [f for f in struct.fields() if f.name == member][0].bitpos // 8
    return gdb.Value(int(link) - offset).cast(struct.pointer())


def each_task():
    head = gdb.parse_and_eval("&rt_loop.tasks")
    link = head.dereference()["next"]
    while int(link) != int(head):
        yield container_of(link, "struct task", "link").dereference()
        link = link.dereference()["next"]


def describe(pc):
    block = gdb.block_for_pc(pc - 1)
    while block is not None and block.function is None:
        block = block.superblock
    name = block.function.name if block is not None else "??"
    place = gdb.find_pc_line(pc - 1)
    if place.symtab is not None:
        return "%s at %s:%d" % (name, place.symtab.filename, place.line)
    return name


def return_addresses(context):
    arch = gdb.selected_inferior().architecture().name()
    if arch not in SAVED or int(context["sp"]) == 0:
        return
    fp_at, pc_at = SAVED[arch]
    sp = int(context["sp"])
    low = int(context["stack_lo"])
    high = low + int(context["stack_size"])
    yield read_word(sp + pc_at)
    fp = read_word(sp + fp_at)
    for _ in range(MAX_FRAMES):
        if not low <= fp <= high - 16:
            return
        pc = read_word(fp + 8)
        if pc == 0:
            return
        yield pc
        above = read_word(fp)
        if above <= fp:
            return
        fp = above


def summary(task):
    state = STATES.get(int(task["state"]), "?")
    text = "%s  %-20s %s" % (task.address, task["name"].string(), state)
    if state == "waiting":
        text += " for " + WAITS.get(int(task["kind"]), "?")
        deadline = int(task["deadline"])
        if deadline < 2**63 - 1:
            now = int(gdb.parse_and_eval("rt_loop.now"))
            text += ", %d ms left" % (deadline - now)
    if task["is_cancelled"]:
        text += ", cancelled"
    return text


class Tasks(gdb.Command):
    """tasks [bt [NAME]]: list the tasks of this process."""

    def __init__(self):
        super().__init__("tasks", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        words = gdb.string_to_argv(argument)
        name = words[1] if len(words) > 1 else None
        n = 0
        for task in each_task():
            if name is not None and task["name"].string() != name:
                continue
            n += 1
            print(summary(task))
            if words[:1] == ["bt"] and int(task["state"]) in (1, 3):
                if not task["has_context"]:
                    print("    not begun")
                    continue
                for i, pc in enumerate(return_addresses(task["context"])):
                    print("    #%-2d %#x %s" % (i, pc, describe(pc)))
        print("%d tasks" % n)


Tasks()
