//! What `virtio-drivers` needs of a machine.

use super::Location;
use crate::heap;
use core::ptr::NonNull;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// Memory that is where it seems to be.
pub struct Memory;

// SAFETY: the heap's pages are page-aligned, zeroed and handed out once; addresses are physical ones.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let start = NonNull::new(heap::pages(pages)).expect("the heap is not at address zero");
        (start.addr().get() as PhysAddr, start)
    }

    unsafe fn dma_dealloc(_physical: PhysAddr, _start: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _size: usize) -> NonNull<u8> {
        NonNull::new(address as usize as *mut u8).expect("no device is at address zero")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.addr().get() as PhysAddr
    }

    unsafe fn unshare(_address: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// A device for a driver of `virtio-drivers`; dropping it resets the device.
pub fn transport(location: Location) -> MmioTransport<'static> {
    let header = NonNull::new(location.address as usize as *mut _).expect("no device is at address zero");
    // SAFETY: the command line says that there is a device, which stays, and one driver at a time uses it.
    unsafe { MmioTransport::new(header, location.bytes) }.expect("the device was recognised before")
}
