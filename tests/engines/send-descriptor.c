/* Hands an open file from one container to another, over a socket that both see:
 *   send-descriptor receive SOCKET     waits for one, makes the file SOCKET.received, and keeps it
 *   send-descriptor send SOCKET FILE   opens FILE and sends it
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.bytes)};
    int receives = argc == 3 && strcmp(argv[1], "receive") == 0;
    int channel = socket(AF_UNIX, SOCK_STREAM, 0);

    if (argc < 3 || strlen(argv[2]) >= sizeof(address.sun_path))
        return 2;
    strcpy(address.sun_path, argv[2]);
    if (receives) {
        char done[sizeof(address.sun_path) + 16];
        int connection;

        if (bind(channel, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(channel, 1) != 0)
            fail("listen");
        connection = accept(channel, NULL, NULL);
        if (connection < 0 || recvmsg(connection, &message, 0) != 1 || message.msg_controllen == 0)
            fail("receive");
        snprintf(done, sizeof(done), "%s.received", argv[2]);
        if (open(done, O_WRONLY | O_CREAT, 0644) < 0)
            fail(done);
        pause();
    } else {
        int file = open(argv[3], O_RDWR | O_NOCTTY);

        if (file < 0)
            fail(argv[3]);
        while (connect(channel, (struct sockaddr *)&address, sizeof(address)) != 0)
            usleep(10000);
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &file, sizeof(file));
        if (sendmsg(channel, &message, 0) != 1)
            fail("send");
        pause();
    }
    return 0;
}
