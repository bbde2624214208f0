/*
 * A Vulkan layer for tests: it lists subgroup matrices of float32, 8 x 8 x 8, behind those that a driver lists. Mesa's
 * software driver multiplies them, but lists float16 and bytes alone, and Dawn takes only what is listed.
 */
#include <string.h>
#include <vulkan/vulkan.h>
#include <vulkan/vk_layer.h>

static PFN_vkGetInstanceProcAddr next;
static PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR next_properties;

static VkResult VKAPI_CALL properties(VkPhysicalDevice device, uint32_t *count,
                                      VkCooperativeMatrixPropertiesKHR *found) {
  uint32_t room = *count;
  uint32_t others = room > 0 ? room - 1 : 0;
  VkResult result = next_properties(device, found ? &others : count, found);
  if (result < 0) return result;
  if (!found) {
    *count += 1;
    return result;
  }
  if (room == 0) return VK_INCOMPLETE;
  VkCooperativeMatrixPropertiesKHR *own = &found[others];
  own->MSize = own->NSize = own->KSize = 8;
  own->AType = own->BType = own->CType = own->ResultType = VK_COMPONENT_TYPE_FLOAT32_KHR;
  own->saturatingAccumulation = VK_FALSE;
  own->scope = VK_SCOPE_SUBGROUP_KHR;
  *count = others + 1;
  return result;
}

static VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *allocator,
                                           VkInstance *instance) {
  /* The loader's link to what comes next, which every layer passes on to that. */
  VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)info->pNext;
  while (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO) {
    link = (VkLayerInstanceCreateInfo *)link->pNext;
  }
  next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  VkResult result = ((PFN_vkCreateInstance)next(NULL, "vkCreateInstance"))(info, allocator, instance);
  if (result == VK_SUCCESS) {
    next_properties = (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)
        next(*instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
  }
  return result;
}

static PFN_vkVoidFunction VKAPI_CALL of_instance(VkInstance instance, const char *name) {
  if (!strcmp(name, "vkGetInstanceProcAddr")) return (PFN_vkVoidFunction)of_instance;
  if (!strcmp(name, "vkCreateInstance")) return (PFN_vkVoidFunction)create_instance;
  if (!strcmp(name, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR")) return (PFN_vkVoidFunction)properties;
  return next ? next(instance, name) : NULL;
}
static PFN_vkVoidFunction VKAPI_CALL of_physical_device(VkInstance instance, const char *name) {
  if (!strcmp(name, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR")) return (PFN_vkVoidFunction)properties;
  return NULL;
}

VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *layer) {
  layer->loaderLayerInterfaceVersion = 2;
  layer->pfnGetInstanceProcAddr = of_instance;
  layer->pfnGetDeviceProcAddr = NULL;
  layer->pfnGetPhysicalDeviceProcAddr = of_physical_device;
  return VK_SUCCESS;
}
