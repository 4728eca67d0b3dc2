# Takes TCP connections on a port, of both families, and reads each to its end: sink.pl PORT
use strict;
use warnings;
use Socket qw(:all);

$SIG{CHLD} = 'IGNORE';
socket(my $listener, AF_INET6, SOCK_STREAM, 0) or die "socket: $!\n";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, pack('i', 1));
setsockopt($listener, IPPROTO_IPV6, IPV6_V6ONLY, pack('i', 0));
bind($listener, pack_sockaddr_in6($ARGV[0], IN6ADDR_ANY)) or die "bind: $!\n";
listen($listener, 100) or die "listen: $!\n";
while (accept(my $peer, $listener)) {
    next if fork;
    1 while sysread($peer, my $what, 65536);
    exit 0;
}
