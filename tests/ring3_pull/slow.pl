# Passes connections on at the pace of a slow line, 64 KiB each 50 ms; while the file STALL is there, nothing comes back:
# slow.pl PORT TARGET STALL
use strict;
use warnings;
use Socket;

my ($port, $target, $stall) = @ARGV;
$SIG{CHLD} = 'IGNORE';
socket(my $listener, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, pack('i', 1));
bind($listener, pack_sockaddr_in($port, INADDR_LOOPBACK)) or die "bind: $!\n";
listen($listener, 100) or die "listen: $!\n";
while (accept(my $client, $listener)) {
    next if fork;
    socket(my $server, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    connect($server, pack_sockaddr_in($target, INADDR_LOOPBACK)) or exit 1;
    my $pid = fork;
    my ($from, $to) = $pid ? ($server, $client) : ($client, $server);
    while (sysread($from, my $bytes, 65536)) {
        if ($pid) {
            select(undef, undef, undef, 0.05);
            select(undef, undef, undef, 0.05) while -e $stall;
        }
        for (my $at = 0; $at < length $bytes;) {
            my $count = syswrite($to, $bytes, length($bytes) - $at, $at) or last;
            $at += $count;
        }
    }
    shutdown($_, 2) for $client, $server;
    exit 0;
}
