/* Interfaces of a made-up machine, for code that asks which addresses are this one's, and no look at routes. Linked
 * with --wrap=getifaddrs,freeifaddrs and --wrap=epx_meeting_own_ip. */
#ifndef EPX_TESTS_FUZZ_FAKE_INTERFACES_H
#define EPX_TESTS_FUZZ_FAKE_INTERFACES_H

/* lo with 127.0.0.1 and ::1, eth0 with 240.0.0.1, docker0 with 240.1.0.1, eth1 with fd00::1 */
#define FAKE_INTERFACES 5

#endif
