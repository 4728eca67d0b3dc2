# Sends what a test counts: send.pl TCP-PORT|0 UDP-PORT COUNT-V4 COUNT-V6 [BYTES]
#
# PRIORITY and MARK in the environment are what a hostile program would set on its sockets; HOLD keeps it running.
use strict;
use warnings;
use Socket qw(:all);

my ($tcp, $udp, $v4, $v6, $bytes) = @ARGV;
my ($SO_PRIORITY, $SO_MARK) = (12, 36);
$| = 1;

sub open_socket {
    my ($family, $type) = @_;
    socket(my $socket, $family, $type, 0) or die "socket: $!\n";
    for ([PRIORITY => $SO_PRIORITY], [MARK => $SO_MARK]) {
        my ($name, $option) = @$_;
        next unless defined $ENV{$name};
        my $done = setsockopt($socket, SOL_SOCKET, $option, pack('I', $ENV{$name}));
        print "$name: ", ($done ? 'done' : $!), "\n";
    }
    return $socket;
}

sub address {
    my ($family, $port) = @_;
    return $family == AF_INET ? pack_sockaddr_in($port, inet_pton($family, '127.0.0.1'))
                              : pack_sockaddr_in6($port, inet_pton($family, '::1'));
}

sub send_udp {
    my ($family, $count) = @_;
    my ($socket, $to) = (open_socket($family, SOCK_DGRAM), address($family, $udp));
    for (1 .. $count) { send($socket, 'x' x 100, 0, $to) // die "send: $!\n" }
}

sub send_tcp {
    my ($family) = @_;
    my $socket = open_socket($family, SOCK_STREAM);
    connect($socket, address($family, $tcp)) or die "connect: $!\n";
    my $left = $bytes // 10000;
    while ($left > 0) { $left -= syswrite($socket, 'y' x ($left < 65536 ? $left : 65536)) // die "write: $!\n" }
    shutdown($socket, SHUT_WR);
    1 while sysread($socket, my $answer, 65536);    # until the other side has had it all
}

send_udp(AF_INET, $v4) if $v4;
send_udp(AF_INET6, $v6) if $v6;
if ($tcp) { send_tcp(AF_INET); send_tcp(AF_INET6) }
print "sent\n";
sleep 1000000 if $ENV{HOLD};
